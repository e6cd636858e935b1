"""CloudWatch Logs and Service Quotas as boto3 and the AWS CLI use them, and what expires."""
import contextlib
import os
import pathlib
import re
import shutil
import sqlite3
import subprocess
import time

import pytest
from botocore import xform_name
from botocore.exceptions import ClientError

from endpoint import Clients
from harness import ACCOUNT, REGION, ROOT, VENV_BIN, Server, printing, wait_until

DAY = 24 * 60 * 60 * 1000
GROUP = "/mine/app"


def now() -> int:
    return int(time.time() * 1000)


@pytest.fixture(scope="module")
def server(base, settings):
    """A server of its own: nothing here needs a microVM."""
    server = Server(base / "logs-data", settings | {"logs": {"retention_days": 30}}, base, "logs").start()
    yield server
    assert server.stop() == 0


@pytest.fixture(scope="module")
def clients(server):
    return Clients(server)


@pytest.fixture
def group(clients):
    clients.logs.create_log_group(logGroupName=GROUP, tags={"team": "red"})
    clients.logs.create_log_stream(logGroupName=GROUP, logStreamName="s")
    yield GROUP
    clients.logs.delete_log_group(logGroupName=GROUP)


def put(clients, *messages: str, stream: str = "s"):
    events = [{"timestamp": now(), "message": message} for message in messages]
    return clients.logs.put_log_events(logGroupName=GROUP, logStreamName=stream, logEvents=events)


def error(call, *arguments, **members) -> str:
    with pytest.raises(ClientError) as refused:
        call(*arguments, **members)
    return refused.value.response["Error"]["Code"]


def test_put_and_get(clients, group):
    assert put(clients, "one", "two")["nextSequenceToken"]
    read = clients.logs.get_log_events(logGroupName=GROUP, logStreamName="s", startFromHead=True)
    assert [event["message"] for event in read["events"]] == ["one", "two"]
    described = clients.logs.describe_log_groups(logGroupNamePrefix=GROUP)["logGroups"][0]
    assert described["storedBytes"] == 2 * 29
    assert described["logGroupArn"] == f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{GROUP}"
    rejected = clients.logs.put_log_events(logGroupName=GROUP, logStreamName="s", logEvents=[
        {"timestamp": now() - 20 * DAY, "message": "too old"}])["rejectedLogEventsInfo"]
    assert rejected == {"tooOldLogEventEndIndex": 1}
    assert error(clients.logs.create_log_group, logGroupName=GROUP) == "ResourceAlreadyExistsException"
    assert error(clients.logs.get_log_events, logGroupName=GROUP, logStreamName="no") == "ResourceNotFoundException"


def test_the_documentation_lists_what_is_served(clients):
    text = (ROOT / "docs/api-compatibility.md").read_text().split("### CloudWatch Logs")[1].split("\n## ")[0]
    rows = re.findall(r"^\| ([A-Z]\w+(?:, [A-Z]\w+)*) \| yes \|", text, re.MULTILINE)
    listed = {name for row in rows for name in row.split(", ")}
    quotas = re.search(r"^\| Service Quotas \| ((?:\w+, )+\w+)\.", (ROOT / "docs/api-compatibility.md").read_text(), re.MULTILINE)
    for service, expected in (("logs", listed), ("service-quotas", set(quotas[1].split(", ")))):
        client = clients.boto(service, parameter_validation=False, inject_host_prefix=False)
        names = client.meta.service_model.operation_names
        assert {name for name in names if is_served(client, name)} == expected


def is_served(client, operation: str) -> bool:
    try:
        getattr(client, xform_name(operation))()
    except ClientError as refused:
        return refused.response["Error"]["Code"] != "UnknownOperationException"
    return True


def test_paginators(clients, group):
    for name in "abc":
        clients.logs.create_log_stream(logGroupName=GROUP, logStreamName=name)
    put(clients, *(f"line {number}" for number in range(25)))

    def pages(operation: str, key: str, size: int, **members):
        paginator = clients.logs.get_paginator(operation)
        return [[item for item in page[key]] for page in paginator.paginate(PaginationConfig={"PageSize": size}, **members)]
    streams = pages("describe_log_streams", "logStreams", 3, logGroupName=GROUP)
    assert [[item["logStreamName"] for item in page] for page in streams] == [["a", "b", "c"], ["s"]]
    events = pages("filter_log_events", "events", 10, logGroupName=GROUP, filterPattern="line")
    assert [len(page) for page in events if page] == [10, 10, 5]


def test_retention_and_tags(clients, group):
    logs, arn = clients.logs, f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{GROUP}"
    logs.put_retention_policy(logGroupName=GROUP, retentionInDays=7)
    assert logs.describe_log_groups(logGroupNamePrefix=GROUP)["logGroups"][0]["retentionInDays"] == 7
    assert error(logs.put_retention_policy, logGroupName=GROUP, retentionInDays=8) == "InvalidParameterException"
    logs.delete_retention_policy(logGroupName=GROUP)
    assert "retentionInDays" not in logs.describe_log_groups(logGroupNamePrefix=GROUP)["logGroups"][0]
    logs.tag_resource(resourceArn=arn, tags={"stage": "test"})
    logs.untag_resource(resourceArn=arn, tagKeys=["team"])
    assert logs.list_tags_for_resource(resourceArn=arn)["tags"] == {"stage": "test"}


def test_the_cli_makes_writes_and_reads(clients):
    clients.aws("logs", "create-log-group", "--log-group-name", "/cli", parse=False)
    clients.aws("logs", "create-log-stream", "--log-group-name", "/cli", "--log-stream-name", "s", parse=False)
    clients.aws("logs", "put-log-events", "--log-group-name", "/cli", "--log-stream-name", "s",
                "--log-events", f"timestamp={now()},message=hello")
    found = clients.aws("logs", "filter-log-events", "--log-group-name", "/cli")
    assert [event["message"] for event in found["events"]] == ["hello"]
    clients.aws("logs", "delete-log-stream", "--log-group-name", "/cli", "--log-stream-name", "s", parse=False)
    clients.aws("logs", "delete-log-group", "--log-group-name", "/cli", parse=False)
    assert clients.aws("logs", "describe-log-groups", "--log-group-name-prefix", "/cli")["logGroups"] == []


def test_live_tail_with_boto3(clients, group):
    logs = clients.boto("logs", inject_host_prefix=False)
    session = logs.start_live_tail(logGroupIdentifiers=[f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{GROUP}"],
                                   logStreamNamePrefixes=["s"], logEventFilterPattern="wanted")["responseStream"]
    events, found = iter(session), []
    assert next(events)["sessionStart"]["logEventFilterPattern"] == "wanted"
    put(clients, "wanted one", "other", "wanted two")
    while len(found) < 2:
        found += [result["message"] for result in next(events)["sessionUpdate"]["sessionResults"]]
    assert found == ["wanted one", "wanted two"]
    session.close()


def cli_2() -> pathlib.Path | None:
    """An AWS CLI 2, which alone has `logs tail`: HEARTH_AWS_CLI_2 names one, or it
    is on the PATH."""
    for name in (os.environ.get("HEARTH_AWS_CLI_2"), shutil.which("aws2"), shutil.which("aws"), "/usr/bin/aws"):
        if name and pathlib.Path(name).exists():
            version = subprocess.run([name, "--version"], capture_output=True, text=True)
            if version.stdout.startswith("aws-cli/2"):
                return pathlib.Path(name)
    return None


def test_live_tail_with_the_cli(clients, group):
    arn = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{GROUP}"
    with printing([VENV_BIN / "aws", "logs", "start-live-tail", "--log-group-identifiers", arn], clients.env) as lines:
        written = []

        def shown() -> bool:
            # A session shows what comes after its start, of which the command says nothing.
            written.append(f"line {len(written)}")
            put(clients, written[-1])
            return any(line.startswith("line ") for line in lines)
        wait_until(shown, 60, "a line is shown", pause=0.5)
        assert [line.strip() for line in lines if line.startswith("line ")][0] in written, lines


def test_tail_with_the_cli(clients, group):
    if not (cli := cli_2()):
        pytest.skip("skipped: no AWS CLI 2 on this host")
    put(clients, "before")
    # Version 2 knows AWS_ENDPOINT_URL since 2.13 only.
    command = [cli, "--endpoint-url", clients.server.api_url, "logs", "tail", GROUP, "--follow", "--since", "5m"]
    with printing(command, clients.env) as lines:
        wait_until(lambda: any("before" in line for line in lines), 60, f"the first line is shown: {lines}")
        put(clients, "after")
        wait_until(lambda: any("after" in line for line in lines), 60, f"the second line is shown: {lines}")
    assert sum("before" in line for line in lines) == 1


def test_service_quotas(clients):
    quotas = clients.boto("service-quotas")
    memory = quotas.get_service_quota(ServiceCode="lambda", QuotaCode="L-CD1C0CC4")["Quota"]
    assert memory["Value"] == 1024
    listed = quotas.get_paginator("list_service_quotas").paginate(ServiceCode="lambda", PaginationConfig={"PageSize": 4})
    assert {quota["QuotaCode"]: quota["Value"] for page in listed for quota in page["Quotas"]}["L-535CA9B6"] == 5
    default = clients.aws("service-quotas", "get-aws-default-service-quota", "--service-code", "lambda",
                          "--quota-code", "L-942E56BE")
    assert default["Quota"]["Value"] == 100
    assert error(quotas.get_service_quota, ServiceCode="lambda", QuotaCode="L-0") == "NoSuchResourceException"
    assert error(quotas.list_service_quotas, ServiceCode="ec2") == "NoSuchResourceException"


def test_what_is_old_goes_by_itself(base, settings):
    """Lines beyond their group's retention, and records of microVMs that ended long ago, are
    gone after a start."""
    server = Server(base / "old-data", settings | {"retention": {"terminated_days": 2}}, base, "old").start()
    clients = Clients(server)
    for age, group in ((1, "/young"), (3, "/old")):
        clients.logs.create_log_group(logGroupName=group)
        clients.logs.create_log_stream(logGroupName=group, logStreamName="s")
        clients.logs.put_log_events(logGroupName=group, logStreamName="s",
                                    logEvents=[{"timestamp": now() - age * DAY - 1000, "message": "x"}])
        clients.logs.put_retention_policy(logGroupName=group, retentionInDays=3)
    assert server.stop() == 0
    with contextlib.closing(sqlite3.connect(server.data_dir / "hearth.db")) as database, database:
        for age in (1, 3):
            database.execute(
                "INSERT INTO microvms (id, account, image_arn, image_version, state, generation, endpoint_label, started_at,"
                " terminated_at, settings) VALUES (?, ?, ?, 1, 'TERMINATED', 1, ?, 0, ?, ?)",
                (f"microvm-{age:08}-0000-4000-8000-000000000000", ACCOUNT, clients.image_arn("app"), str(age),
                 now() - age * DAY - 1000, '{"maximumDurationInSeconds":60,"ingressNetworkConnectors":[],'
                 '"egressNetworkConnectors":[]}'))
    server.start()
    clients = Clients(server)

    def stored() -> dict[str, int]:
        return {found["logGroupName"]: found["storedBytes"] for found in clients.logs.describe_log_groups()["logGroups"]}
    wait_until(lambda: stored() == {"/old": 0, "/young": 27}, 30, "the old line is gone")
    wait_until(lambda: [item["microvmId"][8:16] for item in clients.microvms.list_microvms()["items"]] == ["00000001"],
               30, "the old record is gone")
    assert server.stop() == 0
    shutil.rmtree(server.data_dir)


def test_a_retention_that_the_service_does_not_know_is_refused(base, settings):
    server = Server(base / "refused-data", settings | {"logs": {"retention_days": 2}}, base, "refused")
    assert "logs.retention_days is 2" in server.refuses()
