"""S3 as whole programs use it: the AWS CLI's commands, what tools read and set of a bucket,
accounts, users, roles."""
import contextlib
import json
import os
import re

import botocore.session
import pytest
from botocore.exceptions import ClientError

from artifact import zipped
from endpoint import MIB, Clients
from harness import ACCOUNT, Server
from refusals import documented
from test_s3 import send

OTHER_ACCOUNT = "111122223333"


@pytest.fixture(scope="module")
def own(base):
    """Clients of a server with two accounts; it needs no image."""
    server = Server(base / "s3-accounts", {"accounts": [OTHER_ACCOUNT]}, base, "s3-accounts").start()
    yield Clients(server)
    assert server.stop() == 0


@pytest.fixture(scope="module")
def other(own):
    """An S3 client of the other account's root user."""
    stored = json.loads((own.server.data_dir / f"accounts/{OTHER_ACCOUNT}.json").read_text())
    return own.boto("s3", aws_access_key_id=stored["access_key_id"], aws_secret_access_key=stored["secret_access_key"])


@pytest.fixture
def bucket(own, request):
    name = re.sub("[^a-z0-9]+", "-", request.node.name.lower())[:63].strip("-")
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
    """What microvm-ctl's bootstrap does to its bucket, and what infrastructure tools
    ask of every one."""
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


def allow(*actions: str, resource: str) -> str:
    statement = {"Effect": "Allow", "Action": list(actions), "Resource": resource}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


@pytest.fixture
def user(own, request):
    """Makes a user with one policy; its S3 client, or one with temporary credentials
    of the user."""
    iam, made = own.boto("iam"), []

    def make(policy: str, temporary: bool = False):
        name = f"user-{len(made)}"
        iam.create_user(UserName=name)
        iam.put_user_policy(UserName=name, PolicyName="p", PolicyDocument=policy)
        keys = iam.create_access_key(UserName=name)["AccessKey"]
        made.append((name, keys["AccessKeyId"]))

        def client(service: str, keys: dict):
            return own.boto(service, aws_access_key_id=keys["AccessKeyId"], aws_secret_access_key=keys["SecretAccessKey"],
                            aws_session_token=keys.get("SessionToken"))
        if temporary:
            keys = client("sts", keys).get_session_token()["Credentials"]
        return client("s3", keys)
    yield make
    for name, key in made:
        iam.delete_access_key(UserName=name, AccessKeyId=key)
        iam.delete_user_policy(UserName=name, PolicyName="p")
        iam.delete_user(UserName=name)


@pytest.mark.parametrize("temporary", [False, True])
def test_users_do_what_their_policies_say(own, bucket, user, temporary):
    own.s3.put_object(Bucket=bucket, Key="a/key", Body=b"x")
    own.s3.put_object(Bucket=bucket, Key="b/key", Body=b"y")
    reader = user(allow("s3:GetObject", resource=f"arn:aws:s3:::{bucket}/a/*"), temporary)
    assert reader.get_object(Bucket=bucket, Key="a/key")["Body"].read() == b"x"
    url = reader.generate_presigned_url("get_object", {"Bucket": bucket, "Key": "a/key"}, 60)
    assert send("GET", url) == (200, b"x")
    for denied in ({"Key": "b/key"}, {"Key": "a/key", "VersionId": "null"}):
        with refused("AccessDenied"):
            reader.get_object(Bucket=bucket, **denied)
        assert send("GET", reader.generate_presigned_url("get_object", {"Bucket": bucket} | denied, 60))[0] == 403
    assert send("PUT", reader.generate_presigned_url("put_object", {"Bucket": bucket, "Key": "a/key"}, 60), b"z")[0] == 403
    with refused("AccessDenied"):
        reader.list_objects_v2(Bucket=bucket)
    with refused("AccessDenied"):
        reader.copy_object(Bucket=bucket, Key="a/copy", CopySource=f"{bucket}/a/key")
    kept = reader.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "a/key"}]})
    assert [(error["Key"], error["Code"]) for error in kept["Errors"]] == [("a/key", "AccessDenied")]
    assert own.s3.get_object(Bucket=bucket, Key="a/key")["Body"].read() == b"x"


@pytest.mark.parametrize("version", ["s3v4", "s3"])
def test_presigned_urls_need_the_session_token(own, bucket, version):
    own.s3.put_object(Bucket=bucket, Key="key", Body=b"x")
    keys = own.boto("sts").get_session_token()["Credentials"]
    s3 = own.boto("s3", signature_version=version, aws_access_key_id=keys["AccessKeyId"],
                  aws_secret_access_key=keys["SecretAccessKey"], aws_session_token=keys["SessionToken"])
    assert send("GET", s3.generate_presigned_url("get_object", {"Bucket": bucket, "Key": "key"}, 60)) == (200, b"x")
    for token in ("wrong", None):
        s3 = own.boto("s3", signature_version=version, aws_access_key_id=keys["AccessKeyId"],
                      aws_secret_access_key=keys["SecretAccessKey"], aws_session_token=token)
        url = s3.generate_presigned_url("get_object", {"Bucket": bucket, "Key": "key"}, 60)
        status, body = send("GET", url)
        assert status == 400 and b"<Code>InvalidToken</Code>" in body, (status, body)


def test_signature_version_2_is_for_presigned_urls_only(own, bucket):
    """Its date is not bound to be recent."""
    own.s3.put_object(Bucket=bucket, Key="key", Body=b"x")
    with refused("InvalidRequest") as error:
        own.boto("s3", signature_version="s3").get_object(Bucket=bucket, Key="key")
    assert "Please use AWS4-HMAC-SHA256" in str(error.value)


def test_a_build_role_without_rights_fails_the_build(own, bucket):
    iam = own.boto("iam")
    trust = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
    role = iam.create_role(RoleName="narrow", AssumeRolePolicyDocument=json.dumps(
        {"Version": "2012-10-17", "Statement": [trust]}))["Role"]["Arn"]
    iam.put_role_policy(RoleName="narrow", PolicyName="p", PolicyDocument=allow("s3:GetObject", resource=f"arn:aws:s3:::{bucket}/a/*"))
    for key, begins in (("a/code.zip", "ARCHIVE_INVALID: "), ("b/code.zip", "S3_ACCESS_DENIED: ")):
        own.s3.put_object(Bucket=bucket, Key=key, Body=b"no zip")
        arn = own.create_image("narrow", f"s3://{bucket}/{key}", buildRoleArn=role)
        state, reason = own.wait_built(arn, timeout=60)
        assert state == "CREATE_FAILED" and reason.startswith(begins), reason
        own.delete_image(arn)
    iam.delete_role_policy(RoleName="narrow", PolicyName="p")
    iam.delete_role(RoleName="narrow")


# A test of the crate holds the documentation against the code.
SERVED = documented("Operations of S3")
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
          "GetBucketNotification": "GetBucketNotificationConfiguration",
          "PutBucketLifecycle": "PutBucketLifecycleConfiguration",
          "PutBucketNotification": "PutBucketNotificationConfiguration"}


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
    assert (code in ("NotImplemented", "501")) == (FORMER.get(name, name) not in SERVED), code


def test_tags_by_s3_control(own, bucket):
    """As Terraform's provider asks for them. SDKs put the account before the host, so that
    has to be a name."""
    control = own.boto("s3control", endpoint_url=own.server.api_url.replace("127.0.0.1", "localhost"))
    named = {"AccountId": ACCOUNT, "ResourceArn": f"arn:aws:s3:::{bucket}"}
    assert control.list_tags_for_resource(**named)["Tags"] == []
    control.tag_resource(**named, Tags=[{"Key": "team", "Value": "a & b"}, {"Key": "stage", "Value": "test"}])
    assert own.s3.get_bucket_tagging(Bucket=bucket)["TagSet"] == control.list_tags_for_resource(**named)["Tags"]
    control.untag_resource(**named, TagKeys=["team", "none"])
    assert control.list_tags_for_resource(**named)["Tags"] == [{"Key": "stage", "Value": "test"}]
    with refused("NoSuchBucket"):
        control.list_tags_for_resource(AccountId=ACCOUNT, ResourceArn="arn:aws:s3:::there-is-none")


def test_a_bucket_that_is_made_with_tags(own):
    own.s3.create_bucket(Bucket="made-with-tags", CreateBucketConfiguration={"Tags": [{"Key": "team", "Value": "é"}]})
    assert own.s3.get_bucket_tagging(Bucket="made-with-tags")["TagSet"] == [{"Key": "team", "Value": "é"}]
    own.s3.delete_bucket(Bucket="made-with-tags")
