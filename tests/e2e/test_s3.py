"""The S3 inside, as boto3 and plain HTTP use it."""
import base64
import contextlib
import http.client
import os
import urllib.parse
import zlib

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from endpoint import MIB


@pytest.fixture(scope="module")
def bucket(clients):
    clients.s3.create_bucket(Bucket="boto-bucket")
    return "boto-bucket"


def test_upload_file_in_parts(clients, bucket, base):
    file = base / "large.bin"
    file.write_bytes(os.urandom(20 * MIB))
    clients.s3.upload_file(str(file), bucket, "large.bin")
    head = clients.s3.head_object(Bucket=bucket, Key="large.bin")
    assert head["ContentLength"] == 20 * MIB
    assert head["ETag"].endswith('-3"')  # boto3's parts have 8 MiB.
    clients.s3.download_file(bucket, "large.bin", str(base / "copy.bin"))
    assert (base / "copy.bin").read_bytes() == file.read_bytes()
    part = clients.s3.get_object(Bucket=bucket, Key="large.bin", Range="bytes=8388600-8388615")["Body"].read()
    assert part == file.read_bytes()[8388600:8388616]
    file.unlink()


def test_checksums(clients, bucket):
    put = clients.s3.put_object(Bucket=bucket, Key="crc", Body=b"123456789", ChecksumAlgorithm="CRC32")
    assert put["ChecksumCRC32"] == "y/Q5Jg=="  # The check value of CRC-32, 0xcbf43926.
    got = clients.s3.get_object(Bucket=bucket, Key="crc", ChecksumMode="ENABLED")
    assert got["Body"].read() == b"123456789"
    with pytest.raises(ClientError) as refused:
        clients.s3.put_object(Bucket=bucket, Key="wrong", Body=b"123456789", ChecksumCRC32="AAAAAA==")
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    with pytest.raises(ClientError):
        clients.s3.head_object(Bucket=bucket, Key="wrong")


class InChunks(S3SigV4Auth):
    def payload(self, request) -> str:
        return "STREAMING-UNSIGNED-PAYLOAD-TRAILER"


def put_in_chunks(clients, key: str, length: int) -> http.client.HTTPConnection:
    """Begins an upload in chunks of an object of this length; what follows is up to the caller."""
    url = f"{clients.server.api_url}/boto-bucket/{key}"
    # One chunk, and a trailer.
    framing = len(f"{length:x}\r\n\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n")
    request = AWSRequest("PUT", url, headers={
        "x-amz-decoded-content-length": str(length), "content-encoding": "aws-chunked", "x-amz-trailer": "x-amz-checksum-crc32"})
    keys = Credentials(clients.env["AWS_ACCESS_KEY_ID"], clients.env["AWS_SECRET_ACCESS_KEY"])
    InChunks(keys, "s3", "us-east-1").add_auth(request)
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(url).netloc, timeout=60)
    connection.putrequest("PUT", f"/boto-bucket/{key}")
    for name, value in [*request.headers.items(), ("content-length", str(length + framing))]:
        connection.putheader(name, value)
    connection.endheaders()
    connection.send(f"{length:x}\r\n".encode())
    return connection


def test_an_object_in_one_chunk(clients, bucket):
    data = os.urandom(5 * MIB + 1)
    checksum = base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()
    with contextlib.closing(put_in_chunks(clients, "one", len(data))) as connection:
        connection.send(data + f"\r\n0\r\nx-amz-checksum-crc32:{checksum}\r\n\r\n".encode())
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
    got = clients.s3.get_object(Bucket=bucket, Key="one", ChecksumMode="ENABLED")
    assert got["Body"].read() == data and got["ChecksumCRC32"] == checksum
    assert "ContentEncoding" not in got, "how it came is no property of the object"


def test_a_chunk_without_end_takes_no_memory(clients, bucket):
    before = clients.server.memory("VmRSS")
    with contextlib.closing(put_in_chunks(clients, "endless", 0xfffffff0)) as connection:
        for _ in range(300):
            connection.send(bytes(MIB))
        assert clients.server.memory("VmRSS") - before < 100 * MIB
    assert "endless" not in [item["Key"] for item in clients.s3.list_objects_v2(Bucket=bucket)["Contents"]]


def send(method: str, url: str, body: bytes | None = None) -> tuple[int, bytes]:
    """Plain HTTP without any header of its own: an older presigned URL says that there
    is no content type."""
    parts = urllib.parse.urlsplit(url)
    with contextlib.closing(http.client.HTTPConnection(parts.netloc, timeout=10)) as connection:
        connection.request(method, f"{parts.path}?{parts.query}", body)
        answer = connection.getresponse()
        return answer.status, answer.read()


@pytest.mark.parametrize("version", [None, "s3v4"])
def test_presigned_urls(clients, bucket, version):
    s3 = clients.boto("s3", signature_version=version)

    def url(operation: str) -> str:
        return s3.generate_presigned_url(operation, {"Bucket": bucket, "Key": "signed"}, 60)
    assert send("PUT", url("put_object"), b"by a stranger")[0] == 200
    assert send("GET", url("get_object")) == (200, b"by a stranger")
    for bad in (url("get_object").replace("signed?", "other?"), url("get_object").split("?")[0], url("put_object")):
        assert send("GET", bad)[0] == 403


def test_listing_and_deleting(clients, bucket):
    for name in ("a/1", "a/2", "b"):
        clients.s3.put_object(Bucket=bucket, Key=f"tree/{name}", Body=b"x")
    listed = clients.s3.list_objects_v2(Bucket=bucket, Prefix="tree/", Delimiter="/")
    assert [entry["Prefix"] for entry in listed["CommonPrefixes"]] == ["tree/a/"]
    assert [entry["Key"] for entry in listed["Contents"]] == ["tree/b"]
    clients.s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": f"tree/{name}"} for name in ("a/1", "a/2", "b")]})
    assert clients.s3.list_objects_v2(Bucket=bucket, Prefix="tree/")["KeyCount"] == 0
