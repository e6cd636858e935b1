"""The hooks of a build: `ready` says when the snapshot may be taken, `validate` tries
it out in a clone."""
import pytest

from artifact import zipped
from harness import ACCOUNT, REGION

# Answers each hook as the environment says: `503,200` is 503 to the first call and 200 to all
# others, `2:200` is 200 after two seconds, `exit` ends the app. On port 8080 it says whether a
# validation left something behind.
APP = """
use IO::Select;
use IO::Socket::INET;
$| = 1;
my %answers = map { $_ => [split /,/, $ENV{uc $_} // '404'] } qw(ready validate);
my ($hooks, $app) = map { IO::Socket::INET->new(LocalAddr => '0.0.0.0', LocalPort => $_, Listen => 9, ReuseAddr => 1) or die $@ }
    9000, 8080;
my $listeners = IO::Select->new($hooks, $app);
while (1) {
    for my $listener ($listeners->can_read) {
        my $client = $listener->accept;
        my ($method, $path) = split ' ', scalar <$client>;
        1 while defined($_ = <$client>) && !/^\\r?$/;
        if ($listener == $app) {
            print $client "HTTP/1.1 200 OK\\r\\nConnection: close\\r\\n\\r\\n", -e '/root/validated' ? 'validated' : 'clean';
            next;
        }
        my ($name) = $path =~ m{^/aws/lambda-microvms/runtime/v1/(\\w+)$} or die $path;
        print "$method $name\\n";
        my $answer = @{$answers{$name}} > 1 ? shift @{$answers{$name}} : $answers{$name}[0];
        exit 5 if $answer eq 'exit';
        sleep $1 if $answer =~ s/^(\\d+)://;
        if ($name eq 'validate') {
            open my $file, '>', '/root/validated';
            print $file 'x';
        }
        print $client "HTTP/1.1 $answer Whatever\\r\\nContent-Length: 0\\r\\nConnection: close\\r\\n\\r\\n";
    }
}
"""
DOCKERFILE = 'FROM small:1\nCOPY app.pl /app.pl\nCMD ["perl", "/app.pl"]\n'
GROUP = "/aws/lambda-microvms/hooked"
NAME = "hooked"


@pytest.fixture(scope="module")
def build(clients, small):
    """Builds a version of one image with hooks that answer as told; its version, the image's
    state, the build."""
    clients.s3.create_bucket(Bucket=NAME)
    clients.s3.put_object(Bucket=NAME, Key="code.zip", Body=zipped({"Dockerfile": DOCKERFILE, "app.pl": APP}))
    clients.delete_image(arn := clients.image_arn(NAME))

    def start(ready: str, validate: str | None = None, validate_seconds: int = 30) -> tuple[str, str, dict]:
        hooks = {"ready": "ENABLED", "readyTimeoutInSeconds": 30}
        if validate:
            hooks |= {"validate": "ENABLED", "validateTimeoutInSeconds": validate_seconds}
        settings = {"codeArtifact": {"uri": f"s3://{NAME}/code.zip"}, "buildRoleArn": f"arn:aws:iam::{ACCOUNT}:role/build",
                    "baseImageArn": f"arn:aws:lambda:{REGION}:aws:microvm-image:al2023-1",
                    "resources": [{"minimumMemoryInMiB": 512}], "hooks": {"port": 9000, "microvmImageHooks": hooks},
                    "environmentVariables": {"READY": ready, "VALIDATE": validate or "404"}}
        if clients.image_state(arn) is None:
            version = clients.microvms.create_microvm_image(name=NAME, **settings)["imageVersion"]
        else:
            version = clients.microvms.update_microvm_image(imageIdentifier=arn, **settings)["imageVersion"]
        state, _ = clients.wait_built(arn)
        builds = clients.microvms.list_microvm_image_builds(imageIdentifier=arn, imageVersion=version)["items"]
        return version, state, clients.microvms.get_microvm_image_build(
            imageIdentifier=arn, imageVersion=version, buildId=builds[0]["buildId"])
    yield start
    clients.delete_image(arn)


def printed(clients, build: dict, phase: str) -> list[str]:
    return clients.log_lines(GROUP, stream=f"{phase}-{build['buildId']}")


def test_a_snapshot_is_taken_when_ready_and_tried_out_in_a_clone(clients, build):
    """A slow answer of ready is waited for; what the clone writes is not kept."""
    version, state, done = build("503,2:200", "503,503,200")
    assert (state, done["buildState"]) == ("CREATED", "SUCCESSFUL")
    assert printed(clients, done, "snapshot") == ["POST ready"] * 2
    assert printed(clients, done, "validate") == ["POST validate"] * 3
    assert all(done["snapshotBuild"].values())
    microvm = clients.run(clients.image_arn(NAME), imageVersion=version)
    try:
        assert microvm.request("/").text == "clean"
        assert clients.log_lines(GROUP, stream=microvm.id) == []
    finally:
        microvm.terminate()


@pytest.mark.parametrize(("ready", "validate", "validate_seconds", "reason"), [
    ("200", "503", 2, "Validate hook invocation timed out after PT2S"),
    ("200", "500", 30, "Validate hook check failed: the application returned a server error (HTTP 5xx) response"),
    ("200", "exit", 30, "Container Stopped with Exit Code: 5"),
    ("404,200", None, 30, "Ready hook check failed: the application returned a client error (HTTP 4xx) response"),
])
def test_an_app_that_is_not_fit_fails_its_version(clients, build, ready, validate, validate_seconds, reason):
    if clients.image_state(clients.image_arn(NAME)) is None:
        build("200")
    version, state, done = build(ready, validate, validate_seconds)
    assert (state, done["buildState"], done["stateReason"]) == ("UPDATE_FAILED", "FAILED", reason)
    # The code's size is known, that of the snapshot is not for anybody.
    assert [name for name, size in done["snapshotBuild"].items() if size is not None] == ["codeInstallSizeInBytes"]
    arn = clients.image_arn(NAME)
    assert clients.microvms.get_microvm_image_version(imageIdentifier=arn, imageVersion=version)["state"] == "FAILED"
    assert printed(clients, done, "validate" if validate else "snapshot")[-1] == reason
