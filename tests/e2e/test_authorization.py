"""Who may do what, with users and roles that were made through IAM as on AWS."""
import json

import pytest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

import answers
import model
import wire
from endpoint import Clients
from harness import ACCOUNT
from test_model import SERVED

LAMBDA_TRUST = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"},
                "Action": ["sts:AssumeRole", "sts:TagSession"]}


def policy(*statements: dict) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


def allow(actions, resources="*", **condition) -> dict:
    return {"Effect": "Allow", "Action": actions, "Resource": resources} | ({"Condition": condition} if condition else {})


@pytest.fixture(scope="module")
def iam(clients):
    return clients.boto("iam")


@pytest.fixture
def user(clients, iam, request):
    """Makes a user with these statements as its policy; boto3's arguments with its keys."""
    made: list[str] = []

    def make(*statements: dict) -> dict[str, str]:
        name = f"e2e-{request.node.originalname}-{len(made)}"[:64]
        iam.create_user(UserName=name)
        made.append(name)
        if statements:
            iam.put_user_policy(UserName=name, PolicyName="p", PolicyDocument=policy(*statements))
        key = iam.create_access_key(UserName=name)["AccessKey"]
        return {"aws_access_key_id": key["AccessKeyId"], "aws_secret_access_key": key["SecretAccessKey"]}
    yield make
    for name in made:
        for key in iam.list_access_keys(UserName=name)["AccessKeyMetadata"]:
            iam.delete_access_key(UserName=name, AccessKeyId=key["AccessKeyId"])
        for inline in iam.list_user_policies(UserName=name)["PolicyNames"]:
            iam.delete_user_policy(UserName=name, PolicyName=inline)
        iam.delete_user(UserName=name)


@pytest.fixture
def role(iam):
    """Makes a role; its ARN."""
    made: list[str] = []

    def make(name: str, trust: dict, *statements: dict) -> str:
        arn = iam.create_role(RoleName=name, AssumeRolePolicyDocument=policy(trust))["Role"]["Arn"]
        made.append(name)
        if statements:
            iam.put_role_policy(RoleName=name, PolicyName="p", PolicyDocument=policy(*statements))
        return arn
    yield make
    for name in made:
        for inline in iam.list_role_policies(RoleName=name)["PolicyNames"]:
            iam.delete_role_policy(RoleName=name, PolicyName=inline)
        iam.delete_role(RoleName=name)


def denied(call, action: str, **arguments) -> str:
    """The sentence with which an action is denied."""
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    error = caught.value.response["Error"]
    assert error["Code"] in ("AccessDeniedException", "AccessDenied"), error
    assert f"is not authorized to perform: {action} on resource: " in error["Message"]
    return error["Message"]


def test_nothing_is_reached_without_permission(clients, image, shared, user):
    """Every operation of the models, about things that exist, by a user whom nothing
    allows anything."""
    keys = user()
    credentials = Credentials(keys["aws_access_key_id"], keys["aws_secret_access_key"])
    reached = []
    for name in SERVED:
        operation = model.operations()[name]
        values = model.good(operation.input_shape) if operation.input_shape else {}
        known = {"imageIdentifier": image, "microvmIdentifier": shared.id, "Resource": image}
        values |= {member: value for member, value in known.items() if member in values}
        answer = wire.send(clients, *model.request(operation, values), keys=credentials)
        answers.record(operation, answer.status, answer.headers, answer.body)
        if answer.error != "AccessDeniedException" or f"not authorized to perform: lambda:{name} on" not in answer.message:
            reached.append(f"{name}: {answer}")
    assert not reached, "operations that do not ask first:\n" + "\n".join(reached)


def test_a_user_of_one_image(clients, image, shared, user):
    """The grant is on the image and covers its microVMs."""
    keys = user(allow(["lambda:GetMicrovm", "lambda:RunMicrovm", "lambda:TerminateMicrovm"], image),
                allow("lambda:PassNetworkConnector"))
    own = clients.boto("lambda-microvms", **keys)
    assert own.get_microvm(microvmIdentifier=shared.id)["microvmId"] == shared.id
    denied(own.suspend_microvm, "lambda:SuspendMicrovm", microvmIdentifier=shared.id)
    denied(own.list_microvms, "lambda:ListMicrovms")
    other = clients.image_arn("other")
    assert f"resource: {other} because no identity-based policy allows the lambda:RunMicrovm action" in denied(
        own.run_microvm, "lambda:RunMicrovm", imageIdentifier=other)
    started = own.run_microvm(imageIdentifier=image)["microvmId"]
    own.terminate_microvm(microvmIdentifier=started)


def test_passing_needs_permission_too(clients, image, user, role):
    execution = role("e2e-execution", LAMBDA_TRUST)
    keys = user(allow("lambda:RunMicrovm"), allow("lambda:PassNetworkConnector", "arn:aws:lambda:*:network-connector:*:HTTP_INGRESS"))
    own = clients.boto("lambda-microvms", **keys)
    assert "INTERNET_EGRESS because" in denied(own.run_microvm, "lambda:PassNetworkConnector", imageIdentifier=image)
    denied(own.run_microvm, "iam:PassRole", imageIdentifier=image, executionRoleArn=execution)


def test_a_role_is_assumed_and_its_session_limited(clients, image, shared, user, role):
    keys = user(allow("sts:AssumeRole"))
    trust = {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}, "Action": "sts:AssumeRole"}
    arn = role("e2e-operator", trust, allow("lambda:*Microvm*"))
    sts = clients.boto("sts", **keys)

    def session(**more) -> dict[str, str]:
        assumed = sts.assume_role(RoleArn=arn, RoleSessionName="e2e", **more)
        assert assumed["AssumedRoleUser"]["Arn"] == f"arn:aws:sts::{ACCOUNT}:assumed-role/e2e-operator/e2e"
        made = assumed["Credentials"]
        return {"aws_access_key_id": made["AccessKeyId"], "aws_secret_access_key": made["SecretAccessKey"],
                "aws_session_token": made["SessionToken"]}
    whole = session()
    operator = clients.boto("lambda-microvms", **whole)
    assert operator.get_microvm(microvmIdentifier=shared.id)["microvmId"] == shared.id
    reader = clients.boto("lambda-microvms", **session(Policy=policy(allow("lambda:Get*"))))
    assert reader.get_microvm(microvmIdentifier=shared.id)["microvmId"] == shared.id
    assert "no session policy allows" in denied(reader.list_microvms, "lambda:ListMicrovms")
    for token in ("x" * 40, None):
        forged = clients.boto("lambda-microvms", **(whole | {"aws_session_token": token}))
        with pytest.raises(ClientError, match="The security token included in the request is invalid"):
            forged.get_microvm(microvmIdentifier=shared.id)


def test_tags_decide(clients, image, shared, user):
    keys = user(allow("lambda:*", StringEquals={"aws:ResourceTag/e2e-team": "blue"}))
    own = clients.boto("lambda-microvms", **keys)
    denied(own.get_microvm, "lambda:GetMicrovm", microvmIdentifier=shared.id)
    clients.microvms.tag_resource(Resource=image, Tags={"e2e-team": "blue"})
    try:
        assert own.get_microvm(microvmIdentifier=shared.id)["microvmId"] == shared.id
    finally:
        clients.microvms.untag_resource(Resource=image, TagKeys=["e2e-team"])


def test_a_build_role_that_may_not_read(clients, image, role):
    """The build reads the code with the role's rights; that fails before a guest is booted."""
    blind = role("e2e-blind", LAMBDA_TRUST, allow("s3:GetObject", "arn:aws:s3:::other/*"))
    arn = clients.create_image("e2e-blind", "s3://code/probe.zip", buildRoleArn=blind)
    try:
        state, reason = clients.wait_built(arn)
        assert (state, reason.split(":")[0]) == ("CREATE_FAILED", "S3_ACCESS_DENIED"), reason
    finally:
        clients.delete_image(arn)


def test_accounts_are_apart(servers_of_module, image):
    """A second account has its own images, buckets and log groups, and sees none of the first's."""
    first = Clients(servers_of_module({"accounts": ["111111111111"]}))
    key = first.server.account_keys("111111111111")
    second = first.boto("lambda-microvms", **key)
    assert second.list_microvm_images()["items"] == []
    assert "no resource-based policy allows" in denied(
        second.get_microvm_image, "lambda:GetMicrovmImage", imageIdentifier=image)
    assert first.boto("s3", **key).list_buckets()["Buckets"] == []
    with pytest.raises(ClientError, match="AccessDenied"):
        first.boto("s3", **key).get_object(Bucket="code", Key="probe.zip")
    assert first.boto("logs", **key).describe_log_groups()["logGroups"] == []
    assert first.boto("sts", **key).get_caller_identity()["Account"] == "111111111111"
