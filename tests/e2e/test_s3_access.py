"""S3 as whole programs use it: the AWS CLI's commands, what tools read and set of a bucket, several accounts."""
import contextlib
import json
import os

import botocore.session
import pytest
from botocore.exceptions import ClientError

from artifact import zipped
from endpoint import MIB, Clients
from harness import ACCOUNT, ROOT, Server
from test_s3 import send

OTHER_ACCOUNT = "111122223333"


@pytest.fixture(scope="module")
def own(base):
    """Clients of a server with two accounts; it needs no image."""
    server = Server(base / "accounts", {"accounts": [OTHER_ACCOUNT]}, base, "accounts").start()
    yield Clients(server)
    assert server.stop() == 0


@pytest.fixture(scope="module")
def other(own):
    """An S3 client of the other account's root user."""
    stored = json.loads((own.server.data_dir / f"accounts/{OTHER_ACCOUNT}.json").read_text())
    return own.boto("s3", aws_access_key_id=stored["access_key_id"], aws_secret_access_key=stored["secret_access_key"])


@pytest.fixture
def bucket(own, request):
    name = request.node.name.replace("_", "-")[:63].rstrip("-")
    own.s3.create_bucket(Bucket=name)
    yield name
    for page in own.s3.get_paginator("list_object_versions").paginate(Bucket=name):
        for version in page.get("Versions", []) + page.get("DeleteMarkers", []):
            own.s3.delete_object(Bucket=name, Key=version["Key"], VersionId=version["VersionId"])
    own.s3.delete_bucket(Bucket=name)


@contextlib.contextmanager
def refused(code: str):
    with pytest.raises(ClientError) as error:
        yield error
    assert error.value.response["Error"]["Code"] == code, error.value


def test_sync_and_forced_removal(own, base):
    source = base / "tree"
    for name in ("a/one", "a/two", "b c/é+&.txt"):
        file = source / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(name.encode())
    own.aws("s3", "mb", "s3://synced", parse=False)
    assert own.aws("s3", "sync", str(source), "s3://synced/t", parse=False).count("upload:") == 3
    assert own.aws("s3", "sync", str(source), "s3://synced/t", parse=False) == ""
    (source / "a/one").unlink()
    assert "delete: s3://synced/t/a/one" in own.aws("s3", "sync", "--delete", str(source), "s3://synced/t", parse=False)
    own.aws("s3", "sync", "s3://synced/t", str(base / "back"), parse=False)
    assert (base / "back/b c/é+&.txt").read_text() == "b c/é+&.txt"
    own.aws("s3", "cp", "s3://synced/t/a/two", "s3://synced/copied", parse=False)
    own.aws("s3", "rb", "--force", "s3://synced", parse=False)
    assert "synced" not in own.aws("s3", "ls", parse=False)


def test_versions(own, bucket):
    own.aws("s3api", "put-bucket-versioning", "--bucket", bucket, "--versioning-configuration", "Status=Enabled")
    assert own.aws("s3api", "get-bucket-versioning", "--bucket", bucket) == {"Status": "Enabled"}
    ids = [own.s3.put_object(Bucket=bucket, Key="key", Body=body)["VersionId"] for body in (b"one", b"two")]
    own.aws("s3", "rm", f"s3://{bucket}/key", parse=False)
    listed = own.aws("s3api", "list-object-versions", "--bucket", bucket)
    assert [version["VersionId"] for version in listed["Versions"]] == ids[::-1]
    assert [marker["IsLatest"] for marker in listed["DeleteMarkers"]] == [True]
    assert own.s3.get_object(Bucket=bucket, Key="key", VersionId=ids[0])["Body"].read() == b"one"
    with refused("NoSuchKey"):
        own.s3.get_object(Bucket=bucket, Key="key")
    with refused("BucketNotEmpty"):
        own.s3.delete_bucket(Bucket=bucket)
    marker = listed["DeleteMarkers"][0]["VersionId"]
    erased = own.s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "key", "VersionId": marker}]})
    assert erased["Deleted"][0]["DeleteMarker"] is True
    assert own.s3.get_object(Bucket=bucket, Key="key")["Body"].read() == b"two"
    for number in range(5):
        own.s3.put_object(Bucket=bucket, Key=f"more/{number}", Body=b"")
    pages = own.s3.get_paginator("list_object_versions").paginate(Bucket=bucket, PaginationConfig={"PageSize": 2})
    assert [v["Key"] for page in pages for v in page.get("Versions", [])] == ["key", "key"] + [f"more/{n}" for n in range(5)]


def test_what_tools_read_and_set_of_a_bucket(own, bucket):
    """What microvm-ctl's bootstrap does to its bucket, and what infrastructure tools ask of every one."""
    s3, where = own.s3, {"Bucket": bucket}
    block = dict.fromkeys(("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), True)
    s3.put_public_access_block(**where, PublicAccessBlockConfiguration=block)
    assert s3.get_public_access_block(**where)["PublicAccessBlockConfiguration"] == block
    rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}, "BucketKeyEnabled": False}
    assert s3.get_bucket_encryption(**where)["ServerSideEncryptionConfiguration"]["Rules"] == [rule]
    s3.put_bucket_encryption(**where, ServerSideEncryptionConfiguration={"Rules": [rule]})
    s3.put_bucket_tagging(**where, Tagging={"TagSet": [{"Key": "a", "Value": "b"}]})
    assert s3.get_bucket_tagging(**where)["TagSet"] == [{"Key": "a", "Value": "b"}]
    controls = s3.get_bucket_ownership_controls(**where)["OwnershipControls"]
    assert controls == {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}
    assert s3.get_bucket_acl(**where)["Grants"][0]["Permission"] == "FULL_CONTROL"
    assert "Status" not in s3.get_bucket_versioning(**where)
    assert s3.get_bucket_request_payment(**where)["Payer"] == "BucketOwner"
    for read in (s3.get_bucket_accelerate_configuration, s3.get_bucket_logging, s3.get_bucket_notification_configuration):
        assert set(read(**where)) == {"ResponseMetadata"}
    for read, code in (
        (s3.get_bucket_policy, "NoSuchBucketPolicy"), (s3.get_bucket_cors, "NoSuchCORSConfiguration"),
        (s3.get_bucket_website, "NoSuchWebsiteConfiguration"),
        (s3.get_bucket_lifecycle_configuration, "NoSuchLifecycleConfiguration"),
        (s3.get_bucket_replication, "ReplicationConfigurationNotFoundError"),
        (s3.get_object_lock_configuration, "ObjectLockConfigurationNotFoundError"),
    ):
        with refused(code):
            read(**where)


def test_tags_and_attributes(own, bucket):
    own.s3.put_object(Bucket=bucket, Key="key", Body=b"12345", Tagging="a=1&b=two%20words")
    tags = own.s3.get_object_tagging(Bucket=bucket, Key="key")["TagSet"]
    assert tags == [{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "two words"}]
    own.s3.put_object_tagging(Bucket=bucket, Key="key", Tagging={"TagSet": [{"Key": "c", "Value": ""}]})
    assert own.s3.get_object_tagging(Bucket=bucket, Key="key")["TagSet"] == [{"Key": "c", "Value": ""}]
    own.s3.delete_object_tagging(Bucket=bucket, Key="key")
    assert own.s3.get_object_tagging(Bucket=bucket, Key="key")["TagSet"] == []
    seen = own.s3.get_object_attributes(Bucket=bucket, Key="key", ObjectAttributes=["ObjectSize", "StorageClass", "Checksum"])
    assert (seen["ObjectSize"], seen["StorageClass"]) == (5, "STANDARD")
    assert seen["Checksum"]["ChecksumCRC32"] and "ETag" not in seen


def test_large_parts_are_copied(own, bucket, base):
    file = base / "large.bin"
    file.write_bytes(os.urandom(24 * MIB))
    own.aws("s3", "cp", str(file), f"s3://{bucket}/large", parse=False)
    upload = own.s3.create_multipart_upload(Bucket=bucket, Key="joined", Tagging="a=b")["UploadId"]
    parts = []
    for number, part in enumerate(("bytes=0-9999999", "bytes=10000000-25165823"), 1):
        copied = own.s3.upload_part_copy(
            Bucket=bucket, Key="joined", UploadId=upload, PartNumber=number, CopySource=f"{bucket}/large", CopySourceRange=part)
        parts.append({"PartNumber": number, "ETag": copied["CopyPartResult"]["ETag"]})
    own.s3.complete_multipart_upload(Bucket=bucket, Key="joined", UploadId=upload, MultipartUpload={"Parts": parts})
    assert own.s3.get_object(Bucket=bucket, Key="joined")["Body"].read() == file.read_bytes()
    assert own.s3.get_object_tagging(Bucket=bucket, Key="joined")["TagSet"] == [{"Key": "a", "Value": "b"}]
    file.unlink()


def test_another_account_reaches_nothing(own, other, bucket):
    own.s3.put_object(Bucket=bucket, Key="key", Body=b"x")
    assert bucket not in [found["Name"] for found in other.list_buckets()["Buckets"]]
    with refused("BucketAlreadyExists"):
        other.create_bucket(Bucket=bucket)
    for call in (
        lambda: other.get_object(Bucket=bucket, Key="key"), lambda: other.put_object(Bucket=bucket, Key="key", Body=b"y"),
        lambda: other.list_objects_v2(Bucket=bucket), lambda: other.delete_bucket(Bucket=bucket),
    ):
        with refused("AccessDenied") as error:
            call()
        assert f"arn:aws:iam::{OTHER_ACCOUNT}:root is not authorized" in str(error.value)
    kept = other.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "key"}]})
    assert [error["Code"] for error in kept["Errors"]] == ["AccessDenied"]
    url = other.generate_presigned_url("get_object", {"Bucket": bucket, "Key": "key"}, 60)
    assert send("GET", url)[0] == 403
    own.s3.get_object(Bucket=bucket, Key="key", ExpectedBucketOwner=ACCOUNT)
    with refused("AccessDenied"):
        own.s3.get_object(Bucket=bucket, Key="key", ExpectedBucketOwner=OTHER_ACCOUNT)


def test_a_build_reads_only_what_its_role_may(own, other):
    other.create_bucket(Bucket="theirs")
    other.put_object(Bucket="theirs", Key="code.zip", Body=zipped({"Dockerfile": "FROM scratch\n"}))
    arn = own.create_image("foreign", "s3://theirs/code.zip")
    state, reason = own.wait_built(arn, timeout=60)
    assert state == "CREATE_FAILED"
    role = f"arn:aws:iam::{ACCOUNT}:role/build"
    assert reason == f"S3_ACCESS_DENIED: The build role {role} may not read s3://theirs/code.zip."
    own.delete_image(arn)


def served() -> set[str]:
    """Operations that the documentation promises; a test of the crate holds it against the code."""
    text = (ROOT / "docs/api-compatibility.md").read_text().split("## Operations of S3\n")[1].split("\n## ")[0]
    rows = [line.split(" | ")[0].removeprefix("| ") for line in text.splitlines() if " | yes | " in line]
    return {name for row in rows for name in row.split(", ")}


MODEL = botocore.session.get_session().get_service_model("s3")


def values(shape, name: str = ""):
    """The least that botocore takes for a shape."""
    match shape.type_name:
        case "structure" if shape.is_tagged_union:
            return {member: values(inner, member) for member, inner in list(shape.members.items())[:1]}
        case "structure":
            return {member: values(shape.members[member], member) for member in shape.required_members}
        case "list":
            return [values(shape.member)]
        case "map":
            return {}
        case "integer" | "long":
            return 1
        case "boolean":
            return True
        case "timestamp":
            return 0
        case "blob":
            return b""
    chosen = {"Bucket": "any-bucket", "CopySource": "any-bucket/key", "ObjectOwnership": "BucketOwnerEnforced"}
    return chosen.get(name) or (shape.enum or ["x"])[0]


# Sent to other hosts than the others are.
ELSEWHERE = {"ListDirectoryBuckets", "WriteGetObjectResponse"}
# Older names of the same requests.
FORMER = {"GetBucketLifecycle": "GetBucketLifecycleConfiguration",
          "GetBucketNotification": "GetBucketNotificationConfiguration"}


@pytest.mark.parametrize("name", sorted(set(MODEL.operation_names) - ELSEWHERE))
def test_every_operation_of_the_model_is_served_or_says_that_it_is_not(own, name):
    operation = MODEL.operation_model(name)
    arguments = values(operation.input_shape) if operation.input_shape else {}
    method = botocore.xform_name(name)
    try:
        getattr(own.boto("s3", parameter_validation=False), method)(**arguments)
        code = None
    except ClientError as error:
        code = error.response["Error"]["Code"]
    finally:
        with contextlib.suppress(ClientError):
            own.s3.delete_bucket(Bucket="any-bucket")
    assert (code in ("NotImplemented", "501")) == (FORMER.get(name, name) not in served()), code
