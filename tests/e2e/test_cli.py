"""The command line where it does more than one call of the API: building, and building again."""
import json
import shutil
import subprocess

from harness import HEARTH, ROOT


def hearth(server, *arguments: str, timeout: float = 300) -> subprocess.CompletedProcess:
    return subprocess.run([HEARTH, *arguments], env=server.env(), capture_output=True, text=True, timeout=timeout)


def test_building_again_adds_a_version(clients, server, tmp_path):
    """The first version fails in its Dockerfile; what is built then runs. The name is the directory's owner's to reuse."""
    directory = tmp_path / "again"
    shutil.copytree(ROOT / "examples/perl-counter", directory)
    dockerfile = directory / "Dockerfile"
    good = dockerfile.read_text()
    dockerfile.write_text(good + "RUN exit 3\n")
    failed = hearth(server, "image", "build", str(directory), "--name", "again")
    assert failed.returncode == 1, failed
    assert "the build of again failed: CONTAINER_BUILD_FAILED" in failed.stderr

    dockerfile.write_text(good)
    built = hearth(server, "image", "build", str(directory), "--name", "again", "--json")
    assert built.returncode == 0, built
    build = json.loads(built.stdout)
    assert (build["imageVersion"], build["buildState"]) == ("2.0", "SUCCESSFUL")
    image = clients.microvms.get_microvm_image(imageIdentifier=clients.image_arn("again"))
    assert (image["state"], image["latestActiveImageVersion"]) == ("UPDATED", "2.0")

    refused = hearth(server, "image", "build", str(directory), "--name", "again",
                     "--build-role", "arn:aws:iam::999999999999:role/else")
    assert refused.returncode == 1
    assert "is not authorized to perform: iam:PassRole" in refused.stderr
    clients.delete_image(clients.image_arn("again"))
