// Objects, through the S3 frontend that answers below /s3/ as whoever is logged in.

import { enc, me, Problem, send } from "./api";

export interface Entry { key: string; size: number; modified: string; etag: string }
export interface Page { prefixes: string[]; entries: Entry[]; next: string }
export interface Version { key: string; id: string; latest: boolean; marker: boolean; size: number; modified: string; etag: string }

/** path escapes a bucket and a key so that the server gets the key byte for byte: its slashes too, since a browser takes "..",
 *  however it is escaped, out of a path. */
export const path = (bucket: string, key = "", query = "") => `/s3/${enc(bucket)}${key === "" ? "" : "/" + enc(key)}${query ? "?" + query : ""}`;

/** s3 makes a request; S3's XML errors become problems. */
export async function s3(method: string, url: string, body?: BodyInit, headers: Record<string, string> = {}): Promise<Response> {
  try {
    return await send(method, url, body, headers);
  } catch (e) {
    if (e instanceof Problem && e.message.startsWith("<?xml")) throw xmlProblem(e.status, e.message);
    throw e;
  }
}

function xmlProblem(status: number, text: string): Problem {
  const code = /<Code>([^<]*)/.exec(text)?.[1] ?? "Error";
  return new Problem(status, code, /<Message>([^<]*)/.exec(text)?.[1] || code, "", "", /<RequestId>([^<]*)/.exec(text)?.[1]);
}

const parse = (text: string) => new DOMParser().parseFromString(text, "application/xml");
const text = (e: Element | Document, name: string) => e.getElementsByTagName(name)[0]?.textContent ?? "";
const each = (d: Document, name: string) => Array.from(d.getElementsByTagName(name));
// Keys travel percent-encoded, since XML cannot carry all that a key may hold.
const plain = (s: string) => decodeURIComponent(s.replace(/\+/g, " "));

export async function list(bucket: string, prefix: string, after: string, max = 200): Promise<Page> {
  const q = `list-type=2&delimiter=%2F&encoding-type=url&max-keys=${max}&prefix=${enc(prefix)}` + (after ? `&continuation-token=${enc(after)}` : "");
  const d = parse(await (await s3("GET", path(bucket, "", q))).text());
  return {
    prefixes: each(d, "CommonPrefixes").map((e) => plain(text(e, "Prefix"))),
    entries: each(d, "Contents").map((e) => ({ key: plain(text(e, "Key")), size: +text(e, "Size"), modified: text(e, "LastModified"), etag: text(e, "ETag") })),
    next: text(d, "NextContinuationToken"),
  };
}

/** versions lists those of one key, newest first. */
export async function versions(bucket: string, key: string): Promise<Version[]> {
  const d = parse(await (await s3("GET", path(bucket, "", `versions&encoding-type=url&max-keys=1000&prefix=${enc(key)}`))).text());
  return Array.from(d.documentElement.children)
    .filter((e) => e.tagName === "Version" || e.tagName === "DeleteMarker")
    .map((e) => ({ key: plain(text(e, "Key")), id: text(e, "VersionId"), latest: text(e, "IsLatest") === "true", marker: e.tagName === "DeleteMarker",
      size: +text(e, "Size"), modified: text(e, "LastModified"), etag: text(e, "ETag") }))
    .filter((v) => v.key === key);
}

export const remove = (bucket: string, key: string, version = "") => s3("DELETE", path(bucket, key, version && "versionId=" + enc(version)));

/** restore makes an old version the current one again: by a copy, which moves no bytes. */
export const restore = (bucket: string, key: string, version: string) =>
  s3("PUT", path(bucket, key), undefined, { "X-Amz-Copy-Source": path(bucket, key).slice(3) + "?versionId=" + enc(version) });

export interface Config { name: string; query: string; what: string; json?: boolean; example: string }

/** configs are a bucket's documents that can be edited here, as S3 has them. */
export const configs: Config[] = [
  { name: "Policy", query: "policy", json: true, what: "Who else may do what in this bucket.", example: `{
  "Version": "2012-10-17",
  "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::BUCKET/*"}]
}` },
  { name: "Lifecycle", query: "lifecycle", what: "When versions and uploads end by themselves.", example: `<LifecycleConfiguration>
  <Rule><ID>old-versions</ID><Status>Enabled</Status><Filter><Prefix></Prefix></Filter>
    <NoncurrentVersionExpiration><NoncurrentDays>30</NoncurrentDays></NoncurrentVersionExpiration>
    <AbortIncompleteMultipartUpload><DaysAfterInitiation>7</DaysAfterInitiation></AbortIncompleteMultipartUpload>
  </Rule>
</LifecycleConfiguration>` },
  { name: "CORS", query: "cors", what: "Which web pages of other origins may use this bucket.", example: `<CORSConfiguration>
  <CORSRule><AllowedOrigin>https://app.example.com</AllowedOrigin><AllowedMethod>GET</AllowedMethod></CORSRule>
</CORSConfiguration>` },
  { name: "Encryption", query: "encryption", what: "How new objects are encrypted.", example: `<ServerSideEncryptionConfiguration>
  <Rule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>AES256</SSEAlgorithm></ApplyServerSideEncryptionByDefault></Rule>
</ServerSideEncryptionConfiguration>` },
];

/** config reads a document; "" if there is none. */
export async function config(bucket: string, c: Config): Promise<string> {
  try {
    const t = await (await s3("GET", path(bucket, "", c.query))).text();
    return c.json ? JSON.stringify(JSON.parse(t), null, 2) : t.replace(/^<\?xml[^>]*>\s*/, "");
  } catch (e) {
    if (e instanceof Problem && e.status === 404) return "";
    throw e;
  }
}

/** put sends a document with its SHA-256, which S3 asks for. */
export async function put(url: string, document: string) {
  const sum = new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(document)));
  await s3("PUT", url, document, { "X-Amz-Checksum-Sha256": btoa(String.fromCharCode(...sum)), "X-Amz-Sdk-Checksum-Algorithm": "SHA256" });
}

export const setVersioning = (bucket: string, on: boolean) =>
  put(path(bucket, "", "versioning"), `<VersioningConfiguration><Status>${on ? "Enabled" : "Suspended"}</Status></VersioningConfiguration>`);

// Uploads. A file beyond one part goes up in parts, a few at a time; one that broke off goes on where it ended.

export const partBytes = 16 << 20;
const partsAtOnce = 3;

export interface Progress { sent: number; failed?: string; done?: boolean }

/** send1 is one PUT that tells how far it is, which fetch cannot. */
function send1(url: string, body: Blob, type: string, told: (n: number) => void, signal: AbortSignal): Promise<XMLHttpRequest> {
  return new Promise((resolve, reject) => {
    const x = new XMLHttpRequest();
    x.open("PUT", url);
    if (type) x.setRequestHeader("Content-Type", type);
    x.upload.onprogress = (e) => told(e.loaded);
    x.onload = () => {
      if (x.status === 401) me.value = null;
      x.status < 300 ? resolve(x) : reject(xmlProblem(x.status, x.responseText));
    };
    x.onerror = () => reject(new Problem(0, "No answer", "The server does not answer."));
    x.onabort = () => reject(new Problem(0, "Canceled", "Canceled."));
    signal.addEventListener("abort", () => x.abort());
    x.send(body);
  });
}

export async function upload(bucket: string, key: string, file: File, told: (sent: number) => void, signal: AbortSignal) {
  if (file.size <= partBytes) {
    await send1(path(bucket, key), file, file.type, told, signal);
    return;
  }
  const memory = `upload:${bucket}/${key}:${file.size}:${file.lastModified}`;
  const { id, etags } = await resume(bucket, key, file, memory);
  const sent = new Map<number, number>();
  const numbers = Array.from({ length: Math.ceil(file.size / partBytes) }, (_, i) => i + 1);
  const size = (n: number) => Math.min(partBytes, file.size - (n - 1) * partBytes);
  etags.forEach((_, n) => sent.set(n, size(n)));
  const tell = () => told([...sent.values()].reduce((a, b) => a + b, 0));
  const todo = numbers.filter((n) => !etags.has(n));
  const worker = async () => {
    for (let n = todo.shift(); n !== undefined; n = todo.shift()) {
      const number = n;
      const from = (number - 1) * partBytes;
      const x = await send1(path(bucket, key, `partNumber=${number}&uploadId=${enc(id)}`), file.slice(from, from + partBytes), "", (b) => (sent.set(number, b), tell()), signal);
      etags.set(number, x.getResponseHeader("ETag") ?? "");
    }
  };
  await Promise.all(Array.from({ length: partsAtOnce }, worker));
  const parts = numbers.map((n) => `<Part><PartNumber>${n}</PartNumber><ETag>${etags.get(n)}</ETag></Part>`).join("");
  const r = await s3("POST", path(bucket, key, `uploadId=${enc(id)}`), `<CompleteMultipartUpload>${parts}</CompleteMultipartUpload>`);
  const answer = await r.text();
  if (answer.includes("<Error>")) throw xmlProblem(r.status, answer);
  localStorage.removeItem(memory);
}

/** resume finds the upload that an earlier try began, with the parts that it has, or begins one. */
async function resume(bucket: string, key: string, file: File, memory: string): Promise<{ id: string; etags: Map<number, string> }> {
  const etags = new Map<number, string>();
  const known = localStorage.getItem(memory);
  if (known) {
    try {
      for (let after = "0"; ; ) {
        const d = parse(await (await s3("GET", path(bucket, key, `uploadId=${enc(known)}&part-number-marker=${after}`))).text());
        each(d, "Part").forEach((p) => etags.set(+text(p, "PartNumber"), text(p, "ETag")));
        if (text(d, "IsTruncated") !== "true") return { id: known, etags };
        after = text(d, "NextPartNumberMarker");
      }
    } catch {
      etags.clear(); // it is gone: begin anew
    }
  }
  const d = parse(await (await s3("POST", path(bucket, key, "uploads"), "", file.type ? { "Content-Type": file.type } : {})).text());
  const id = text(d, "UploadId");
  localStorage.setItem(memory, id);
  return { id, etags };
}
