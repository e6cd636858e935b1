"""Users, roles, policies and sessions, as boto3 and the AWS CLI make and use them; and
several accounts."""
import json
import re
import subprocess

import boto3
import pytest
from botocore.exceptions import ClientError

import query
from endpoint import Clients
from harness import ACCOUNT, HEARTH, REGION, Server

OTHER = "111122223333"
TRUST = {"Version": "2012-10-17", "Statement": [
    {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": ["sts:AssumeRole", "sts:TagSession"]}]}


def policy(*actions: str, resource: str = "*") -> str:
    statement = {"Effect": "Allow", "Action": list(actions), "Resource": resource}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def refused(code: str, says: str = ""):
    """Expects a ClientError with this code."""
    return pytest.raises(ClientError, match=rf"\({code}\).*{re.escape(says)}")


class Account:
    """An account of a server: its root user's clients, and clients with other keys."""

    def __init__(self, server: Server, number: str):
        self.server, self.clients = server, Clients(server)
        self.clients.env |= env_of(server, number)
        self.iam, self.sts = self.boto("iam"), self.boto("sts")

    def boto(self, service: str, keys: dict | None = None):
        """A client with keys as CreateAccessKey or AssumeRole answers them; the root
        user's without."""
        keys = keys or {}
        chosen = {"aws_access_key_id": keys.get("AccessKeyId", self.clients.env["AWS_ACCESS_KEY_ID"]),
                  "aws_secret_access_key": keys.get("SecretAccessKey", self.clients.env["AWS_SECRET_ACCESS_KEY"]),
                  "aws_session_token": keys.get("SessionToken")}
        return query.watch(boto3.client(service, endpoint_url=self.server.api_url, region_name=REGION, **chosen))

    def user(self, name: str, document: str | None = None) -> dict:
        """Makes a user; its keys."""
        self.iam.create_user(UserName=name)
        if document:
            self.iam.put_user_policy(UserName=name, PolicyName="own", PolicyDocument=document)
        return self.iam.create_access_key(UserName=name)["AccessKey"]


def env_of(server: Server, number: str) -> dict[str, str]:
    done = subprocess.run([HEARTH, "env", "--data-dir", server.data_dir, "--account", number],
                          capture_output=True, text=True, check=True)
    return dict(re.findall(r"^export (\w+)='?(.*?)'?$", done.stdout, re.MULTILINE))


@pytest.fixture(scope="module")
def accounts_server(base, settings):
    server = Server(base / "accounts", settings | {"accounts": [OTHER]}, base, "accounts").start()
    yield server
    if server.running:
        assert server.stop() == 0
    assert not query.wrong, "answers that do not fit botocore's models:\n" + "\n".join(query.wrong)


@pytest.fixture(scope="module")
def first(accounts_server):
    return Account(accounts_server, ACCOUNT)


def test_a_user_may_do_what_its_policies_say(first):
    keys = first.user("ann", policy("iam:GetUser", resource=f"arn:aws:iam::{ACCOUNT}:user/${{aws:username}}"))
    ann = first.boto("iam", keys)
    assert first.boto("sts", keys).get_caller_identity()["Arn"] == f"arn:aws:iam::{ACCOUNT}:user/ann"
    assert ann.get_user()["User"]["UserName"] == "ann"
    with refused("AccessDenied", "user/ann is not authorized to perform: iam:ListUsers"):
        ann.list_users()
    with refused("AccessDenied"):
        ann.get_user(UserName="bob")
    first.iam.attach_user_policy(UserName="ann", PolicyArn="arn:aws:iam::aws:policy/IAMFullAccess")
    assert [user["UserName"] for user in ann.list_users()["Users"]] == ["ann"]
    ann.delete_access_key(AccessKeyId=keys["AccessKeyId"])
    with refused("InvalidClientTokenId"):
        ann.get_user()


def test_roles_as_microvm_ctl_makes_them(first):
    """The calls of its `bootstrap`, in its order."""
    iam, name = first.iam, "microvm-ctl-build-role"
    document = {"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::code/*"},
        {"Effect": "Allow", "Action": ["logs:CreateLogGroup", "logs:PutLogEvents"],
         "Resource": [f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:/aws/lambda-microvms/*"]}]}
    for _ in range(2):
        try:
            arn = iam.get_role(RoleName=name)["Role"]["Arn"]
        except iam.exceptions.NoSuchEntityException:
            made = iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(TRUST), Description="a & <b>")
            arn = made["Role"]["Arn"]
        iam.put_role_policy(RoleName=name, PolicyName=f"{name}-inline", PolicyDocument=json.dumps(document))
    assert arn == f"arn:aws:iam::{ACCOUNT}:role/{name}"
    role = iam.get_role(RoleName=name)["Role"]
    assert (role["AssumeRolePolicyDocument"], role["Description"]) == (TRUST, "a & <b>")
    assert iam.get_role_policy(RoleName=name, PolicyName=f"{name}-inline")["PolicyDocument"] == document
    iam.get_waiter("role_exists").wait(RoleName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 1})


def test_the_aws_cli(first, base):
    aws = first.clients.aws
    trust, rights = base / "trust.json", base / "rights.json"
    trust.write_text(json.dumps(TRUST, indent=2))
    rights.write_text(policy("s3:GetObject"))
    arn = aws("iam", "create-role", "--role-name", "cli", "--path", "/cli/", "--assume-role-policy-document",
              f"file://{trust}", "--tags", "Key=team,Value=red", "Key=x,Value=")["Role"]["Arn"]
    assert arn == f"arn:aws:iam::{ACCOUNT}:role/cli/cli"
    made = aws("iam", "create-policy", "--policy-name", "cli", "--policy-document", f"file://{rights}")["Policy"]
    aws("iam", "attach-role-policy", "--role-name", "cli", "--policy-arn", made["Arn"], parse=False)
    aws("iam", "put-role-policy", "--role-name", "cli", "--policy-name", "in", "--policy-document", f"file://{rights}",
        parse=False)
    role = aws("iam", "get-role", "--role-name", "cli")["Role"]
    assert role["AssumeRolePolicyDocument"] == TRUST and len(role["Tags"]) == 2
    attached = aws("iam", "list-attached-role-policies", "--role-name", "cli")["AttachedPolicies"]
    assert attached == [{"PolicyName": "cli", "PolicyArn": made["Arn"]}]
    assert aws("iam", "list-role-policies", "--role-name", "cli")["PolicyNames"] == ["in"]
    aws("iam", "create-user", "--user-name", "cli")
    keys = aws("iam", "create-access-key", "--user-name", "cli")["AccessKey"]
    assert first.boto("sts", keys).get_caller_identity()["Arn"].endswith(":user/cli")
    aws("iam", "detach-role-policy", "--role-name", "cli", "--policy-arn", made["Arn"], parse=False)
    aws("iam", "delete-policy", "--policy-arn", made["Arn"], parse=False)
    aws("iam", "delete-role-policy", "--role-name", "cli", "--policy-name", "in", parse=False)
    aws("iam", "delete-role", "--role-name", "cli", parse=False)


def test_assumed_roles_and_session_tokens(first):
    iam, role = first.iam, f"arn:aws:iam::{ACCOUNT}:role/reader"
    eve = first.user("eve", policy("sts:AssumeRole", resource=role))
    trust = {"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Principal": {"AWS": ACCOUNT}, "Action": "sts:AssumeRole",
         "Condition": {"StringEquals": {"sts:ExternalId": "shared secret".replace(" ", "-")}}}]}
    iam.create_role(RoleName="reader", AssumeRolePolicyDocument=json.dumps(trust), MaxSessionDuration=7200)
    iam.put_role_policy(RoleName="reader", PolicyName="read", PolicyDocument=policy("iam:List*", "iam:Get*"))
    sts = first.boto("sts", eve)
    with refused("AccessDenied", f"sts:AssumeRole on resource: {role}"):
        sts.assume_role(RoleArn=role, RoleSessionName="s-1")
    with refused("AccessDenied", "Roles may not be assumed by root accounts."):
        first.sts.assume_role(RoleArn=role, RoleSessionName="s-1", ExternalId="shared-secret")
    answer = sts.assume_role(RoleArn=role, RoleSessionName="s-1", ExternalId="shared-secret", DurationSeconds=7200,
                             Policy=policy("iam:ListRoles"))
    assert answer["AssumedRoleUser"]["Arn"] == f"arn:aws:sts::{ACCOUNT}:assumed-role/reader/s-1"
    session = first.boto("iam", answer["Credentials"])
    assert "reader" in [item["RoleName"] for item in session.list_roles()["Roles"]]
    with refused("AccessDenied", "no session policy allows the iam:ListUsers action"):
        session.list_users()

    token = sts.get_session_token(DurationSeconds=900)["Credentials"]
    assert first.boto("sts", token).get_caller_identity()["Arn"].endswith(":user/eve")
    with refused("InvalidClientTokenId"):
        first.boto("iam", token).list_users()
    first.boto("sts", token).assume_role(RoleArn=role, RoleSessionName="s-2", ExternalId="shared-secret")


def test_pages_waiters_and_error_classes(first):
    iam = first.iam
    for name in ("page-c", "page-A", "page-b"):
        iam.create_user(UserName=name, Path="/pages/")
    pages = list(iam.get_paginator("list_users").paginate(PathPrefix="/pages/", PaginationConfig={"PageSize": 2}))
    assert [[user["UserName"] for user in page["Users"]] for page in pages] == [["page-A", "page-b"], ["page-c"]]
    iam.get_waiter("user_exists").wait(UserName="page-b", WaiterConfig={"Delay": 1, "MaxAttempts": 1})
    errors = iam.exceptions
    with pytest.raises(errors.EntityAlreadyExistsException):
        iam.create_user(UserName="PAGE-B")
    with pytest.raises(errors.NoSuchEntityException):
        iam.delete_user(UserName="page-d")
    with pytest.raises(errors.MalformedPolicyDocumentException):
        iam.put_user_policy(UserName="page-b", PolicyName="p", PolicyDocument="{}")
    with pytest.raises(errors.InvalidInputException):
        iam.get_policy(PolicyArn="this-is-no-arn-of-a-policy")
    for _ in range(2):
        iam.create_access_key(UserName="page-b")
    with pytest.raises(errors.LimitExceededException):
        iam.create_access_key(UserName="page-b")
    with pytest.raises(errors.DeleteConflictException):
        iam.delete_user(UserName="page-b")
    assert iam.get_account_summary()["SummaryMap"]["AccessKeysPerUserQuota"] == 2


def test_accounts_do_not_see_each_other(first, accounts_server):
    second = Account(accounts_server, OTHER)
    assert second.sts.get_caller_identity()["Account"] == OTHER
    assert second.iam.list_users()["Users"] == second.iam.list_roles()["Roles"] == []
    first.user("shared-name")
    made = first.iam.create_policy(PolicyName="mine", PolicyDocument=policy("s3:*"))["Policy"]["Arn"]
    with pytest.raises(second.iam.exceptions.NoSuchEntityException):
        second.iam.get_user(UserName="shared-name")
    with refused("AccessDenied"):
        second.iam.get_policy(PolicyArn=made)
    second.user("shared-name")
    second.iam.tag_user(UserName="shared-name", Tags=[{"Key": "k", "Value": "v"}])
    assert first.iam.list_user_tags(UserName="shared-name")["Tags"] == []


def test_an_account_that_is_not_there(accounts_server):
    done = subprocess.run([HEARTH, "env", "--data-dir", accounts_server.data_dir, "--account", "999999999999"],
                          capture_output=True, text=True)
    assert done.returncode == 1 and "999999999999" in done.stderr, done


def test_a_restart_keeps_users_roles_keys_and_sessions(base, settings):
    server = Server(base / "restart", settings, base, "identity-restart").start()
    try:
        before = Account(server, ACCOUNT)
        keys = before.user("ann", policy("iam:*"))
        token = before.boto("sts", keys).get_session_token()["Credentials"]
        before.iam.create_role(RoleName="build", AssumeRolePolicyDocument=json.dumps(TRUST))
        assert server.stop() == 0
        after = Account(server.start(), ACCOUNT)
        assert after.boto("iam", keys).get_role(RoleName="build")["Role"]["AssumeRolePolicyDocument"] == TRUST
        assert after.boto("sts", token).get_caller_identity()["Arn"].endswith(":user/ann")
    finally:
        if server.running:
            server.stop()
