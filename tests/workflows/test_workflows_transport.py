"""HTTP as GitHub wants it: waits where it says so, goes through the proxy, repeats what may be repeated."""

from __future__ import annotations

import pytest
import urllib3

from controller.forge.transport import ATTEMPTS, MAX_WAIT_SECONDS, Transport
from controller.github.api import GitHub, GitHubError

NOW = 1_000_000.0
SECONDARY = "You have exceeded a secondary rate limit."


@pytest.fixture
def waits():
    return []


@pytest.fixture
def api(github, waits):
    return GitHub(github.url, "acme/fleet", "ghs_secret", Transport(waits.append, lambda: NOW))


LIMITS = {
    "Retry-After": ((403, {"Retry-After": "7"}, SECONDARY), 7),
    "Retry-After of 429": ((429, {"Retry-After": "9"}, "slow down"), 9),
    "the hour's limit": ((403, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(int(NOW) + 30)}, "no"), 31),
    "a limit without a word": ((403, {}, SECONDARY), 60),
}


@pytest.mark.parametrize(("fault", "seconds"), LIMITS.values(), ids=LIMITS)
def test_a_rate_limit_is_waited_for_whatever_is_called(api, github, waits, fault, seconds):
    github.fail_with = [fault, fault]
    api.create_comment(7, "hello")
    assert waits == [seconds, seconds]
    assert [comment["body"] for comment in github.comments] == ["hello"]


def test_a_limit_that_lasts_longer_than_a_job_waits_says_so_and_blames_no_permission(api, github, waits):
    github.fail_with = [(403, {"Retry-After": str(int(MAX_WAIT_SECONDS) + 1)}, SECONDARY)]
    with pytest.raises(GitHubError, match="GitHub answered 403") as raised:
        api.create_comment(7, "hello")
    assert waits == []
    assert "rate limit" in raised.value.remedy
    assert "permission" not in raised.value.remedy


def test_a_limit_that_never_ends_ends_the_attempts(api, github, waits):
    github.fail_with = [(429, {"Retry-After": "1"}, "no")] * ATTEMPTS
    with pytest.raises(GitHubError, match="GitHub answered 429"):
        list(api.comments(7))
    assert len(waits) == ATTEMPTS - 1


@pytest.mark.parametrize(("status", "is_repeated"), [(500, False), (502, False), (503, False)])
def test_what_would_post_twice_is_not_repeated_after_a_fault(api, github, waits, status, is_repeated):
    github.fail_with = [status]
    with pytest.raises(GitHubError, match=f"GitHub answered {status}"):
        api.create_comment(7, "hello")
    github.fail_with = [status]
    assert list(api.comments(7)) == []
    assert len(waits) == 1


def test_the_proxy_of_the_environment_is_the_way_and_no_proxy_the_way_around(github, waits, monkeypatch):
    monkeypatch.setenv("http_proxy", github.url)
    monkeypatch.delenv("no_proxy", raising=False)
    transport = Transport(waits.append, lambda: NOW)
    api = GitHub("http://api.github.example.org", "acme/fleet", "ghs_secret", transport)
    api.create_comment(7, "through")
    assert [comment["body"] for comment in github.comments] == ["through"]
    assert isinstance(transport._pool("http://api.github.example.org"), urllib3.ProxyManager)
    monkeypatch.setenv("no_proxy", "github.example.org")
    assert not isinstance(transport._pool("http://api.github.example.org"), urllib3.ProxyManager)


def test_an_answer_that_is_no_json_is_named(api, github, monkeypatch):
    monkeypatch.setattr(urllib3.HTTPResponse, "json", lambda _self: (_ for _ in ()).throw(ValueError("no")))
    with pytest.raises(GitHubError, match="is not JSON") as raised:
        list(api.comments(7))
    assert "HTTPS_PROXY" in raised.value.remedy
