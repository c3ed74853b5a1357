"""The boto3 cases of make test-clients: prints PASS or FAIL for each."""
import hashlib
import io
import json
import os
import sys

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import ClientError

s3 = boto3.client("s3", endpoint_url=os.environ["ENDPOINT"], config=Config(s3={"addressing_style": "path"}))
BUCKET = "boto"


def case(name, run):
    try:
        run()
        print("PASS", name)
    except Exception as e:  # noqa: BLE001: any failure is the case's verdict
        print("FAIL", name + ":", type(e).__name__, str(e).splitlines()[0] if str(e) else "")


def equal(got, want):
    if got != want:
        raise AssertionError(f"got {str(got)[:80]!r}, want {str(want)[:80]!r}")


def refused(code, run, **kw):
    try:
        run(**kw)
    except ClientError as e:
        equal(e.response["Error"]["Code"], code)
        return
    raise AssertionError(f"not refused with {code}")


def round_trip(key):
    data = key.encode()[:100]
    s3.put_object(Bucket=BUCKET, Key=key, Body=data, Metadata={"k": "v"})
    got = s3.get_object(Bucket=BUCKET, Key=key)
    equal(got["Body"].read(), data)
    equal(got["Metadata"], {"k": "v"})
    listed = s3.list_objects_v2(Bucket=BUCKET, Prefix=key)
    equal(key in [o["Key"] for o in listed["Contents"]], True)
    s3.copy_object(Bucket=BUCKET, Key="copied", CopySource={"Bucket": BUCKET, "Key": key})
    equal(s3.get_object(Bucket=BUCKET, Key="copied")["Body"].read(), data)


def sized(n):
    data = os.urandom(n)
    s3.upload_fileobj(io.BytesIO(data), BUCKET, "sized", Config=TransferConfig(multipart_threshold=16 << 20))
    equal(s3.head_object(Bucket=BUCKET, Key="sized")["ContentLength"], n)
    out = io.BytesIO()
    s3.download_fileobj(BUCKET, "sized", out)
    equal(hashlib.md5(out.getvalue()).hexdigest(), hashlib.md5(data).hexdigest())


def ranges():
    data = bytes(range(256)) * 40
    s3.put_object(Bucket=BUCKET, Key="ranges", Body=data)
    for header, want in [("bytes=0-0", data[:1]), ("bytes=10-19", data[10:20]), ("bytes=10200-", data[10200:]),
                         ("bytes=-7", data[-7:]), ("bytes=-99999", data), ("bytes=10000-99999", data[10000:])]:
        got = s3.get_object(Bucket=BUCKET, Key="ranges", Range=header)
        equal(got["Body"].read(), want)
        equal(got["ResponseMetadata"]["HTTPStatusCode"], 206)
    refused("InvalidRange", s3.get_object, Bucket=BUCKET, Key="ranges", Range="bytes=10240-")


def listing():
    for i in range(25):
        s3.put_object(Bucket=BUCKET, Key=f"list/{i % 5}/{i:03d} +%", Body=b"")
    seen = []
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix="list/", PaginationConfig={"PageSize": 7}):
        seen += [o["Key"] for o in page["Contents"]]
    equal(seen, sorted(f"list/{i % 5}/{i:03d} +%" for i in range(25)))
    got = s3.list_objects_v2(Bucket=BUCKET, Prefix="list/", Delimiter="/")
    equal([p["Prefix"] for p in got["CommonPrefixes"]], [f"list/{i}/" for i in range(5)])
    gone = s3.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": k} for k in seen]})
    equal(len(gone["Deleted"]), 25)
    equal(s3.list_objects_v2(Bucket=BUCKET, Prefix="list/")["KeyCount"], 0)


def versions():
    s3.create_bucket(Bucket="boto-versions")
    s3.put_bucket_versioning(Bucket="boto-versions", VersioningConfiguration={"Status": "Enabled"})
    ids = [s3.put_object(Bucket="boto-versions", Key="k", Body=b)["VersionId"] for b in (b"one", b"two")]
    s3.delete_object(Bucket="boto-versions", Key="k")
    refused("NoSuchKey", s3.get_object, Bucket="boto-versions", Key="k")
    equal(s3.get_object(Bucket="boto-versions", Key="k", VersionId=ids[0])["Body"].read(), b"one")
    got = s3.list_object_versions(Bucket="boto-versions")
    equal([v["VersionId"] for v in got["Versions"]], [ids[1], ids[0]])
    equal(len(got["DeleteMarkers"]), 1)


def presigned():
    import urllib.request
    s3.put_object(Bucket=BUCKET, Key="pre signed+", Body=b"by url")
    url = s3.generate_presigned_url("get_object", Params={"Bucket": BUCKET, "Key": "pre signed+"}, ExpiresIn=60)
    equal(urllib.request.urlopen(url).read(), b"by url")
    url = s3.generate_presigned_url("put_object", Params={"Bucket": BUCKET, "Key": "pre put"}, ExpiresIn=60)
    # A type would be part of the signature (version 2, this boto3's default), and urllib adds one unless it is told an empty one.
    urllib.request.urlopen(urllib.request.Request(url, data=b"put by url", method="PUT", headers={"Content-Type": ""})).read()
    equal(s3.get_object(Bucket=BUCKET, Key="pre put")["Body"].read(), b"put by url")


def errors():
    refused("NoSuchBucket", s3.list_objects_v2, Bucket="no-such-bucket")
    refused("NoSuchKey", s3.get_object, Bucket=BUCKET, Key="no such key")
    refused("404", s3.head_object, Bucket=BUCKET, Key="no such key")
    refused("BucketNotEmpty", s3.delete_bucket, Bucket=BUCKET)


def metadata():
    s3.put_object(Bucket=BUCKET, Key="meta", Body=b"x", ContentType="text/x-test", CacheControl="no-store", ContentDisposition="attachment",
                  ContentEncoding="gzip", ContentLanguage="de", Metadata={"one": "1", "two-words": "a b"}, Tagging="a=b&c=d",
                  ServerSideEncryption="AES256")
    got = s3.head_object(Bucket=BUCKET, Key="meta")
    equal(got["ContentType"], "text/x-test")
    equal(got["ContentEncoding"], "gzip")
    equal(got["ServerSideEncryption"], "AES256")
    equal(got["Metadata"], {"one": "1", "two-words": "a b"})
    equal(s3.get_object_tagging(Bucket=BUCKET, Key="meta")["TagSet"], [{"Key": "a", "Value": "b"}, {"Key": "c", "Value": "d"}])


s3.create_bucket(Bucket=BUCKET)
for key in json.load(open(sys.argv[1])) + ["k" * 1024, "s/" * 512]:
    case("key " + json.dumps(key[:30], ensure_ascii=False), lambda: round_trip(key))
for n in [0, 1, (5 << 20) - 1, 5 << 20, (5 << 20) + 1, (64 << 20) - 1, 64 << 20, (64 << 20) + 1]:
    case(f"{n} bytes", lambda: sized(n))
for f in (ranges, listing, versions, presigned, errors, metadata):
    case(f.__name__, f)
