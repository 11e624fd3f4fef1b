"""Posting to a local stand-in for GitHub's REST API that keeps comments and issues."""

import json

import pytest
from workflows_github import REPOSITORY_ID

from controller.github.__main__ import main


@pytest.fixture
def environment(github, tmp_path):
    event = tmp_path / "event.json"
    event.write_text(json.dumps({"pull_request": {"number": 7}}))
    return {
        "GITHUB_API_URL": github.url,
        "GITHUB_REPOSITORY": "acme/fleet",
        "GITHUB_TOKEN": "ghs_secret",
        "GITHUB_EVENT_PATH": str(event),
    }


@pytest.fixture
def post(environment, tmp_path):
    def run(text, *arguments):
        body = tmp_path / "body.md"
        body.write_text(text)
        return main([*arguments, "--body", str(body)], environment)

    return run


def test_a_second_push_replaces_the_comment_of_the_first(post, github):
    assert post("12 devices rotate", "comment") == 0
    assert post("13 devices rotate", "comment") == 0
    assert [c["body"] for c in github.comments] == ["<!-- certfleet:plan -->\n13 devices rotate"]


def test_an_unchanged_text_is_not_posted_again(post, github):
    post("same", "comment")
    before = len(github.requests)
    post("same", "comment")
    assert [request[0] for request in github.requests[before:]] == ["GET"]


def test_a_person_who_quotes_the_marker_keeps_their_comment(post, github):
    authors = {"User": {"type": "User"}, "an account that is gone": None, "as Gitea tells it": {"login": "ada"}}
    quoted = [f"<!-- certfleet:plan -->\nlook at this, {who}" for who in authors]
    github.comments += [
        {"id": 90, "body": body, "user": user} for body, user in zip(quoted, authors.values(), strict=True)
    ]
    post("plan", "comment")
    assert [c["body"] for c in github.comments] == [*quoted, "<!-- certfleet:plan -->\nplan"]


def test_what_gitea_has_posted_for_an_earlier_push_is_replaced(post, github):
    github.comments.append(
        {"id": 90, "body": "<!-- certfleet:plan -->\nplan", "user": {"id": -2, "login": "gitea-actions"}}
    )
    post("another plan", "comment")
    assert [c["body"] for c in github.comments] == ["<!-- certfleet:plan -->\nanother plan"]


def test_what_a_forge_without_reviews_answers_stands_in_the_report(environment, github, tmp_path):
    report = tmp_path / "outcome.md"
    github.fail_with.append(404)
    arguments = ["approved", "--environment", "certfleet-override", "--report", str(report)]
    assert main(arguments, {**environment, "GITHUB_RUN_ID": "1"}) == 1
    assert "404" in report.read_text()


def test_the_sticky_comment_is_found_behind_a_hundred_others(post, github):
    github.comments += [{"id": n, "body": "hi", "user": {"type": "User"}} for n in range(1, 151)]
    post("one", "comment")
    post("two", "comment")
    assert sum("certfleet" in c["body"] for c in github.comments) == 1


def test_two_keys_have_a_comment_each(post, github):
    post("plan", "comment", "--key", "plan")
    post("drift", "comment", "--key", "drift")
    assert len(github.comments) == 2


@pytest.fixture
def keep_issues(environment, tmp_path):
    """Keeps the issues by what each fleet needs a person for; None: the run ended before it could say."""

    def run(fleets, *arguments, failing=()):
        attention, failure = tmp_path / "attention.json", tmp_path / "failure.md"
        attention.unlink(missing_ok=True)
        failure.write_text("## it broke")
        if fleets is not None:
            values = [
                {"fleet": name, "needs_person": lines, "failing": list(failing)} for name, lines in fleets.items()
            ]
            attention.write_text(json.dumps({"fleets": values}))
        return main(["issues", "--attention", str(attention), "--failure", str(failure), *arguments], environment)

    return run


def test_one_issue_opens_is_updated_and_closes_when_solved(keep_issues, github):
    keep_issues({"production": ["gw-1: two certificates → detach one"]})
    keep_issues({"production": ["gw-1: two certificates → detach one", "gw-2: none → provision it"]})
    [issue] = github.issues
    assert (issue["title"], issue["state"]) == ("certfleet: fleet production needs a person", "open")
    assert "- gw-2: none → provision it" in issue["body"]
    keep_issues({"production": []})
    assert issue["state"] == "closed"
    assert github.comments[0]["body"] == "Nothing in fleet **production** needs a person any more."


def test_an_unchanged_fleet_does_not_touch_its_issue_though_the_run_is_another(keep_issues, github, environment):
    run = {"GITHUB_SERVER_URL": "https://github.com", "GITHUB_RUN_ID": "1", "GITHUB_WORKFLOW": "reconcile"}
    environment.update(run)
    keep_issues({"production": ["same"]})
    assert "[reconcile](https://github.com/acme/fleet/actions/runs/1)" in github.issues[0]["body"]
    before = len(github.requests)
    environment["GITHUB_RUN_ID"] = "2"
    keep_issues({"production": ["same"]})
    assert {request[0] for request in github.requests[before:]} == {"GET"}


def test_a_device_that_fails_and_is_tried_again_keeps_the_issue_open(keep_issues, github):
    keep_issues({"production": []}, failing=["gw-1: FAILED, no space left"])
    assert "### Failed, and tried again\n\n- gw-1: FAILED, no space left" in github.issues[0]["body"]


def test_each_fleet_has_an_issue_of_its_own_and_a_later_job_may_speak_for_one(keep_issues, github):
    keep_issues({"north": ["a"], "south": ["b"], "west": ["c"]}, "--skip", '["west"]')
    assert [issue["title"] for issue in github.issues] == [
        "certfleet: fleet north needs a person",
        "certfleet: fleet south needs a person",
    ]


def test_a_solved_fleet_without_an_issue_opens_none(keep_issues, github):
    keep_issues({"production": []})
    assert github.issues == []


def test_documents_that_cannot_be_read_have_an_issue_of_their_own(keep_issues, github):
    keep_issues(None)
    [issue] = github.issues
    assert issue["title"] == "certfleet: the desired state cannot be reconciled"
    assert "## it broke" in issue["body"]
    keep_issues({"production": []})
    assert issue["state"] == "closed"


def test_what_a_device_said_formats_nothing_and_calls_nobody(keep_issues, github):
    keep_issues({"production": ["gw-1: [x](https://example.org) @everyone <img>"]})
    assert "- gw-1: \\[x\\](https:\u200b//example.org) @\u200beveryone \\<img\\>" in github.issues[0]["body"]


def test_what_takes_an_override_says_where_a_person_gives_it(keep_issues, github):
    keep_issues({"production": ["policy line-a: 3 of 4 failed → --override resume=line-a"]})
    assert "start the `reconcile` workflow by hand" in github.issues[0]["body"]


def test_a_long_list_is_counted_at_its_end(keep_issues, github):
    keep_issues({"production": [f"gw-{number}: none" for number in range(300)]})
    assert "- and 250 more: `certfleet drift` lists all" in github.issues[0]["body"]


RECORD = "production/20261201T042300Z.json"


@pytest.fixture
def history(environment, tmp_path):
    """Fetches the history; returns the files that are there then."""
    event = json.loads((tmp_path / "event.json").read_text())
    (tmp_path / "event.json").write_text(json.dumps(event | {"repository": {"id": REPOSITORY_ID}}))
    environment["GITHUB_REF_NAME"] = "main"

    def run():
        folder = tmp_path / "history"
        code = main(["history", "--into", str(folder)], environment)
        found = {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*.json")}
        return code, found

    return run


def test_the_history_of_the_last_report_is_fetched_and_none_is_no_error(history, github):
    assert history() == (0, {})
    github.add_artifact("drift-history", {RECORD: "old"})
    github.add_artifact("drift-history", {RECORD: "new"})
    assert history() == (0, {RECORD: "new"})


def test_the_history_of_a_fork_or_a_branch_is_not_taken(history, github):
    github.add_artifact("drift-history", {RECORD: "main's"})
    github.add_artifact("drift-history", {RECORD: "a fork's"}, head_repository_id=666)
    github.add_artifact("drift-history", {RECORD: "a branch's"}, branch="feature")
    assert history() == (0, {RECORD: "main's"})


def test_nothing_but_records_leaves_the_archive(history, github):
    github.add_artifact("drift-history", {RECORD: "x", "../../evil.json": "x", "a/b.json": "x", "z/x.sh": "x"})
    assert history() == (0, {RECORD: "x"})
    github.add_artifact("drift-history", {RECORD: "x" * 20_000})
    assert history() == (0, {RECORD: "x"}), "a record that is too long is none"


def test_a_damaged_archive_says_what_to_do(history, github, capsys):
    github.add_artifact("drift-history", {})
    github.artifacts[0] = (github.artifacts[0][0], b"no zip")
    assert history()[0] == 1
    assert "Delete it: the trend begins anew." in capsys.readouterr().err


def test_a_token_that_may_not_comment_is_told_which_permission_it_needs(post, github, capsys):
    github.tokens = {"ghs_secret": {"contents": "read"}}
    assert post("plan", "comment") == 1
    printed = capsys.readouterr().err
    assert "GitHub answered 403" in printed
    assert "'pull-requests: write' to comment" in printed


def test_a_passing_fault_of_github_is_ridden_out(post, github):
    github.fail_with = [502]
    assert post("plan", "comment") == 0
    assert len(github.comments) == 1


@pytest.mark.parametrize(
    ("given", "said"),
    {
        "GitHub refuses": ({"fail": [403]}, "GitHub answered 403"),
        "nobody listens": ({"environment": {"GITHUB_API_URL": "http://127.0.0.1:9"}}, "GitHub cannot be reached"),
        "no token": ({"environment": {"GITHUB_TOKEN": ""}}, "GITHUB_TOKEN is not set"),
        "no pull request": ({"event": {"push": 1}}, "has no pull_request.number"),
        "text too long": ({"text": "x" * 65_600}, "65624 characters"),
    }.values(),
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_every_failure_says_what_to_do_and_keeps_the_token_to_itself(
    given, said, post, github, environment, capsys, tmp_path
):
    github.fail_with = given.get("fail", [])
    environment.update(given.get("environment", {}))
    if "event" in given:
        (tmp_path / "event.json").write_text(json.dumps(given["event"]))
    assert post(given.get("text", "plan"), "comment") == 1
    printed = capsys.readouterr().err
    assert said in printed
    assert "ghs_secret" not in printed


def test_the_issue_of_a_fleet_that_is_no_more_is_closed_by_a_run_that_sees_all_fleets(keep_issues, github):
    keep_issues({"north": ["a"], "south": ["b"]})
    keep_issues({"north": ["a"]})
    assert {issue["state"] for issue in github.issues} == {"open"}, "a run over one fleet says nothing of the others"

    keep_issues({"centre": ["b"], "north": ["a"]}, "--whole", "--skip", '["north"]')

    assert {issue["title"].split()[2]: issue["state"] for issue in github.issues} == {
        "north": "open",
        "south": "closed",
        "centre": "open",
    }
    assert "No document names this fleet any more." in github.comments[-1]["body"]


def test_a_repository_without_issues_is_noted_and_no_failure(keep_issues, github, capsys):
    github.fail_with = [410]
    assert keep_issues({"north": ["a"]}) == 0
    assert capsys.readouterr().out.startswith(
        "::notice title=certfleet::no tracking issue is kept: GitHub answered 410"
    )


@pytest.mark.parametrize("resume", ["line-a --override orphans=9", "line-a\nx", "$(id)", "Line", "-x"])
def test_an_input_that_is_more_than_one_name_is_refused(tmp_path, capsys, resume):
    assert main(["outputs", "--plan", str(tmp_path / "plan.json"), f"--resume={resume}"], {}) == 1
    assert "is not a policy's name" in capsys.readouterr().err
