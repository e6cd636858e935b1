"""Versions of an image: an update built for real beside microVMs of the version before,
activation, deletion, tags."""
import contextlib

import pytest
from botocore.exceptions import ClientError

from artifact import zipped
from harness import ACCOUNT, REGION, snapshot_of, wait_until

APP = """
use IO::Socket::INET;
my $listener = IO::Socket::INET->new(LocalPort => 8080, Listen => 9, ReuseAddr => 1) or die $@;
while (my $client = $listener->accept) {
    1 while defined($_ = <$client>) && !/^\\r?$/;
    print $client "HTTP/1.1 200 OK\\r\\nConnection: close\\r\\n\\r\\n%s";
}
"""
DOCKERFILE = 'FROM small:1\nCOPY app.pl /app.pl\nCMD ["perl", "/app.pl"]\n'


def put_code(clients, answer: str) -> dict:
    """Uploads an app that gives this answer; what a create or an update says of it."""
    code = zipped({"Dockerfile": DOCKERFILE, "app.pl": APP % answer})
    clients.s3.put_object(Bucket="versions", Key="code.zip", Body=code)
    return {
        "codeArtifact": {"uri": "s3://versions/code.zip"}, "buildRoleArn": f"arn:aws:iam::{ACCOUNT}:role/build",
        "baseImageArn": f"arn:aws:lambda:{REGION}:aws:microvm-image:al2023-1",
        "resources": [{"minimumMemoryInMiB": 512}],
    }


@pytest.fixture(scope="module")
def versions(clients, small):
    """An image whose version 1.0 says `one`."""
    clients.delete_image(clients.image_arn("versions"))
    clients.s3.create_bucket(Bucket="versions")
    arn = clients.microvms.create_microvm_image(name="versions", tags={"a": "1"}, **put_code(clients, "one"))["imageArn"]
    assert clients.wait_built(arn) == ("CREATED", None)
    yield arn
    clients.delete_image(arn)


@contextlib.contextmanager
def refused(code: str, sentence: str):
    with pytest.raises(ClientError) as error:
        yield
    assert error.value.response["Error"]["Code"] == code
    assert sentence in error.value.response["Error"]["Message"]


def test_an_update_beside_a_microvm_of_the_version_before(clients, versions):
    api = clients.microvms
    old = clients.run(versions)
    assert old.request("/").text == "one"
    update = api.update_microvm_image(imageIdentifier=versions, description="second", **put_code(clients, "two"))
    assert (update["imageVersion"], update["state"]) == ("2.0", "UPDATING")
    with refused("ConflictException", "MicroVM Image is already in state: UPDATING"):
        api.update_microvm_image_version(imageIdentifier=versions, imageVersion="1.0", status="INACTIVE")
    early = clients.run(versions)
    assert (early.get()["imageVersion"], early.request("/").text) == ("1.0", "one")
    early.terminate()
    assert clients.wait_built(versions, version="2.0") == ("UPDATED", None)

    new = clients.run(versions)
    assert (new.get()["imageVersion"], new.request("/").text) == ("2.0", "two")
    new.terminate()
    old.suspend()
    assert old.request("/").text == "one"

    with refused("ValidationException", "Cannot delete microvm image with running microvms."):
        api.delete_microvm_image_version(imageIdentifier=versions, imageVersion="1.0")
    api.update_microvm_image_version(imageIdentifier=versions, imageVersion="2.0", status="INACTIVE")
    with refused("ResourceNotFoundException", f"No active version found for MicroVM image {versions} and version 2.0"):
        clients.run(versions, imageVersion="2.0")
    pinned = clients.run(versions)
    assert pinned.get()["imageVersion"] == "1.0"
    pinned.terminate()
    old.terminate()
    api.update_microvm_image_version(imageIdentifier=versions, imageVersion="2.0", status="ACTIVE")

    files = clients.server.data_dir / "images" / ACCOUNT / "versions"
    snapshot = snapshot_of(files / "1.0")
    assert snapshot.is_dir()
    assert api.delete_microvm_image_version(imageIdentifier=versions, imageVersion="1.0")["state"] == "DELETING"
    wait_until(lambda: api.get_microvm_image(imageIdentifier=versions)["state"] == "UPDATED", 30, "1.0 is deleted")
    assert sorted(path.name for path in files.iterdir()) == ["2.0"] and not snapshot.exists()
    listed = [item["imageVersion"] for item in api.list_microvm_image_versions(imageIdentifier=versions)["items"]]
    assert listed == ["2.0"]
    last = clients.run(versions)
    assert last.request("/").text == "two"
    last.terminate()


def test_tags_by_the_cli(clients, versions):
    clients.aws("lambda-microvms", "tag-resource", "--resource", versions, "--tags", "b=2,a=3", parse=False)
    assert clients.aws("lambda-microvms", "list-tags", "--resource", versions) == {"Tags": {"a": "3", "b": "2"}}
    clients.aws("lambda-microvms", "untag-resource", "--resource", versions, "--tag-keys", "a", "b", parse=False)
    assert clients.microvms.get_microvm_image(imageIdentifier=versions)["tags"] == {}
