// The cases of @aws-sdk/client-s3 and lib-storage in make test-clients: prints PASS or FAIL for each.
import { createHash, randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { Readable } from "node:stream";
import {
  S3Client, CreateBucketCommand, PutObjectCommand, GetObjectCommand, HeadObjectCommand, CopyObjectCommand, ListObjectsV2Command,
  DeleteObjectsCommand, paginateListObjectsV2,
} from "@aws-sdk/client-s3";
import { Upload } from "@aws-sdk/lib-storage";

const s3 = new S3Client({ endpoint: process.env.ENDPOINT, region: "us-east-1", forcePathStyle: true });
const Bucket = "javascript";

const md5 = (b) => createHash("md5").update(b).digest("hex");
const equal = (got, want) => {
  if (got !== want) throw new Error(`got ${String(got).slice(0, 80)}, want ${String(want).slice(0, 80)}`);
};
const check = async (name, run) => {
  try {
    await run();
    console.log("PASS", name);
  } catch (e) {
    console.log("FAIL", `${name}: ${e.name} ${String(e.message).split("\n")[0]}`);
  }
};
const get = async (Key, more = {}) => Buffer.from(await (await s3.send(new GetObjectCommand({ Bucket, Key, ...more }))).Body.transformToByteArray());

await s3.send(new CreateBucketCommand({ Bucket }));
const keys = JSON.parse(readFileSync(process.argv[2], "utf8"));
for (const Key of [...keys, "k".repeat(1024), "s/".repeat(512)]) {
  await check(`key ${JSON.stringify(Key.slice(0, 30))}`, async () => {
    const data = Buffer.from(Key).subarray(0, 100);
    await s3.send(new PutObjectCommand({ Bucket, Key, Body: data, Metadata: { k: "v" } }));
    equal(md5(await get(Key)), md5(data));
    const listed = await s3.send(new ListObjectsV2Command({ Bucket, Prefix: Key }));
    equal(listed.Contents.some((o) => o.Key === Key), true);
    await s3.send(new CopyObjectCommand({ Bucket, Key: "copied", CopySource: `${Bucket}/${encodeURIComponent(Key)}` }));
    equal(md5(await get("copied")), md5(data));
  });
}
for (const n of [0, 1, (5 << 20) - 1, 5 << 20, (5 << 20) + 1, (64 << 20) - 1, 64 << 20, (64 << 20) + 1]) {
  await check(`lib-storage upload of ${n} bytes`, async () => {
    const data = randomBytes(n);
    const done = await new Upload({ client: s3, params: { Bucket, Key: "sized", Body: data } }).done();
    equal(Boolean(done.ETag), true);
    const head = await s3.send(new HeadObjectCommand({ Bucket, Key: "sized", ChecksumMode: "ENABLED" }));
    equal(head.ContentLength, n);
    equal(md5(await get("sized")), md5(data));
  });
}
await check("lib-storage upload of a stream of unknown length", async () => {
  const data = randomBytes(12 << 20);
  const pieces = Readable.from((function* () {
    for (let i = 0; i < data.length; i += 100_000) yield data.subarray(i, i + 100_000);
  })());
  await new Upload({ client: s3, params: { Bucket, Key: "stream", Body: pieces } }).done();
  equal(md5(await get("stream")), md5(data));
});
for (const ChecksumAlgorithm of ["CRC32", "CRC32C", "SHA1", "SHA256", "CRC64NVME"]) {
  await check(`multipart with ${ChecksumAlgorithm}`, async () => {
    const data = randomBytes(11 << 20);
    await new Upload({ client: s3, params: { Bucket, Key: "summed", Body: data, ChecksumAlgorithm } }).done();
    const head = await s3.send(new HeadObjectCommand({ Bucket, Key: "summed", ChecksumMode: "ENABLED" }));
    equal(Boolean(head[`Checksum${ChecksumAlgorithm}`]), true);
    equal(md5(await get("summed", { ChecksumMode: "ENABLED" })), md5(data));
  });
}
await check("ranges", async () => {
  const data = randomBytes(10_000);
  await s3.send(new PutObjectCommand({ Bucket, Key: "ranges", Body: data }));
  for (const [Range, want] of [["bytes=0-0", data.subarray(0, 1)], ["bytes=10-19", data.subarray(10, 20)],
    ["bytes=9990-", data.subarray(9990)], ["bytes=-7", data.subarray(-7)], ["bytes=9000-99999", data.subarray(9000)]]) {
    equal(md5(await get("ranges", { Range })), md5(want));
  }
});
await check("pages and DeleteObjects", async () => {
  const want = [];
  for (let i = 0; i < 25; i++) {
    want.push(`list/${String(i).padStart(3, "0")} +%&<`);
    await s3.send(new PutObjectCommand({ Bucket, Key: want[i], Body: "" }));
  }
  const seen = [];
  for await (const page of paginateListObjectsV2({ client: s3, pageSize: 7 }, { Bucket, Prefix: "list/" })) seen.push(...page.Contents.map((o) => o.Key));
  equal(seen.join(), want.join());
  const gone = await s3.send(new DeleteObjectsCommand({ Bucket, Delete: { Objects: seen.map((Key) => ({ Key })) } }));
  equal(gone.Deleted.length, 25);
});
