"""botocore's models of IAM and STS against the server: what is served, what is refused, and
the documentation."""
import botocore.session
import pytest

import model
import query
from refusals import documented, refusal_problem

SERVICES = {"iam": "2010-05-08", "sts": "2011-06-15"}
# Constraints that the server does not enforce as the models have them, by `operation path
# rule`, with the reason.
OTHERWISE = {
    "AssumeRole ProvidedContexts max": "Empty structures have no form in the query protocol, so nothing is sent.",
}
SERVED = documented("Operations of IAM", "Operations of STS")


def operations() -> dict[str, tuple[str, botocore.model.OperationModel]]:
    """Service and model of each operation; no name is in both."""
    models = {service: botocore.session.Session().get_service_model(service, version)
              for service, version in SERVICES.items()}
    return {name: (service, found.operation_model(name)) for service, found in models.items()
            for name in found.operation_names}


OPERATIONS = operations()


@pytest.fixture(scope="module")
def unchecked(clients):
    return {service: clients.boto(service, parameter_validation=False) for service in SERVICES}


def test_the_documentation_lists_what_is_served(unchecked):
    answers = {name: query.call(unchecked[service], name, {}) for name, (service, _) in OPERATIONS.items()}
    # Those that need no signature are asked for one.
    absent = {name for name, answer in answers.items() if answer.error in ("InvalidAction", "MissingAuthenticationToken")}
    assert sorted(answers.keys() - absent) == SERVED


@pytest.mark.parametrize("name", SERVED)
def test_every_constraint_of_an_operation_is_enforced(unchecked, name):
    service, operation = OPERATIONS[name]
    # The protocol has no null; what is missing is tried as well.
    broken = [one for one in model.violations(operation) if one.rule != "null"]
    found = {f"{name} {one.key}": refusal_problem(one, query.call(unchecked[service], name, one.input), "ValidationError")
             for one in broken}
    new = [f"{key}: {problem}" for key, problem in found.items() if problem and key not in OTHERWISE]
    assert not new, "constraints of the model that the server does not enforce:\n" + "\n".join(new)
    over = [key for key in OTHERWISE if key.split()[0] == name and not found.get(key)]
    assert not over, "enforced, or no constraint of the model; delete them from the table:\n" + "\n".join(over)
