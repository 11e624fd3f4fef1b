"""Folders, working trees and refs: what is read, what is refused, and which commit it is."""

import os
import socket
from pathlib import Path

import pytest

from controller.desired import GitRef, Limits, WorkingTree, load
from controller.desired import repository as module
from controller.desired.repository_name import repository_name
from controller.errors import DesiredStateError, GitError

DEFAULTS = Limits()


def write(folder: Path, files: dict[str, str]) -> Path:
    for path, text in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    return folder


def refused(folder: Path, limits: Limits = DEFAULTS) -> list[str]:
    return [str(problem) for problem in WorkingTree(folder).read(limits).problems]


class TestFolder:
    def test_documents_lie_in_yaml_files_at_any_depth_and_nowhere_else(self, tmp_path):
        write(
            tmp_path,
            {
                "b.yml": "b",
                "a.yaml": "a",
                "README.md": "",
                "schema.json": "",
                "sub/deeper/c.yaml": "c",
                ".hidden.yaml": "",
                ".git-like/d.yaml": "",
            },
        )
        snapshot = WorkingTree(tmp_path).read(DEFAULTS)
        assert [(file.path, file.data) for file in snapshot.files] == [
            ("a.yaml", b"a"),
            ("b.yml", b"b"),
            ("sub/deeper/c.yaml", b"c"),
        ]
        assert snapshot.problems == ()

    def test_outside_a_repository_there_is_no_commit_and_nothing_counts_as_committed(self, tmp_path, documents, now):
        write(tmp_path, {"f.yaml": documents["fleet"]})
        (state,) = load(WorkingTree(tmp_path), now=now)
        assert (state.commit, state.is_dirty) == (None, True)

    @pytest.mark.parametrize("name", ["link.yaml", "folder", "README"])
    def test_a_symbolic_link_is_refused_whatever_it_is_called(self, tmp_path, name):
        (tmp_path / "outside").mkdir()
        folder = write(tmp_path / "desired", {"a.yaml": "a"})
        (folder / name).symlink_to(tmp_path / "outside")
        assert refused(folder) == [f"{name}:1: found a symbolic link; allowed: regular files and folders"]

    def test_a_pipe_is_refused_without_waiting_for_a_writer(self, tmp_path):
        os.mkfifo(tmp_path / "pipe.yaml")
        assert refused(tmp_path) == ["pipe.yaml:1: found no regular file; allowed: regular files and folders"]

    def test_a_socket_is_refused(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("s.yaml")
            assert refused(tmp_path) == ["s.yaml:1: cannot be read: No such device or address"]

    def test_a_name_that_would_break_a_report_is_refused(self, tmp_path):
        write(tmp_path, {"a\nb.yaml": "a"})
        assert refused(tmp_path) == ["'a\\nb.yaml':1: the name has unprintable characters; allowed: printable text"]

    def test_size_and_depth_are_bounded(self, tmp_path):
        write(tmp_path, {"large.yaml": "x" * 11, "1/2/3/deep.yaml": "x"})
        assert refused(tmp_path, Limits(max_file_bytes=10, max_folder_depth=2)) == [
            "1/2/3/deep.yaml:1: lies deeper than 2 folders",
            "large.yaml:1: the file has 11 bytes; allowed: at most 10",
        ]

    @pytest.mark.parametrize(
        ("limits", "message"),
        [
            (Limits(max_files=2), "c.yaml:1: more than 2 files of documents"),
            (Limits(max_total_bytes=25), "c.yaml:1: the files exceed 25 bytes together"),
        ],
    )
    def test_the_whole_is_bounded(self, tmp_path, limits, message):
        write(tmp_path, dict.fromkeys(("a.yaml", "b.yaml", "c.yaml"), "x" * 10))
        with pytest.raises(DesiredStateError, match=message):
            WorkingTree(tmp_path).read(limits)

    def test_a_file_that_may_not_be_read_is_a_problem(self, tmp_path, monkeypatch):
        write(tmp_path, {"a.yaml": "a"})

        def deny(*_args, **_options):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(os, "open", deny)
        assert refused(tmp_path) == ["a.yaml:1: cannot be read: Permission denied"]

    def test_a_folder_that_may_not_be_listed_is_a_problem(self, tmp_path, monkeypatch):
        write(tmp_path, {"a.yaml": "a", "closed/b.yaml": "b"})
        scandir = os.scandir

        def deny(path):
            if Path(path).name == "closed":
                raise PermissionError(13, "Permission denied")
            return scandir(path)

        monkeypatch.setattr(os, "scandir", deny)
        assert refused(tmp_path) == ["closed:1: cannot be read: Permission denied"]

    @pytest.mark.parametrize(("path", "found"), [("nowhere", "nothing"), ("file", "no folder")])
    def test_what_is_no_folder_is_told_so(self, tmp_path, path, found):
        write(tmp_path, {"file": ""})
        with pytest.raises(DesiredStateError, match=f"found {found}; allowed: a folder with documents"):
            WorkingTree(tmp_path / path).read(DEFAULTS)


class TestWorkingTree:
    def test_a_clean_tree_names_its_commit(self, repository, documents, now):
        commit = repository.commit({"desired/f.yaml": documents["fleet"]})
        (state,) = load(WorkingTree(repository.root / "desired"), now=now)
        assert (state.commit, state.is_dirty) == (commit, False)
        assert state.fleet.source.path == "desired/f.yaml"

    @pytest.mark.parametrize(
        ("change", "is_dirty"),
        [
            pytest.param({"desired/f.yaml": "edited"}, True, id="an edited document"),
            pytest.param({"desired/new.yaml": "new"}, True, id="a new document, ignored by git or not"),
            pytest.param({"desired/README.md": "new"}, False, id="a new file that holds no documents"),
            pytest.param({"other.yaml": "new"}, False, id="a new file elsewhere"),
            pytest.param({"desired/f.yaml": "a: 1\r\nb: 2\r\n"}, False, id="ends of lines as a checkout may make them"),
        ],
    )
    def test_a_tree_is_dirty_where_its_documents_differ_from_the_commit(self, repository, change, is_dirty):
        commit = repository.commit({"desired/f.yaml": "a: 1\nb: 2\n", ".gitignore": "new.yaml\n"})
        repository.write(change)
        snapshot = WorkingTree(repository.root / "desired").read(DEFAULTS)
        assert (snapshot.commit, snapshot.is_dirty) == (commit, is_dirty)

    def test_a_removed_document_makes_the_tree_dirty(self, repository):
        repository.commit({"desired/f.yaml": "a", "desired/g.yaml": "b"})
        (repository.root / "desired/g.yaml").unlink()
        assert WorkingTree(repository.root / "desired").read(DEFAULTS).is_dirty

    def test_a_folder_that_was_never_committed_is_dirty(self, repository):
        commit = repository.commit({"other": ""})
        repository.write({"desired/f.yaml": "a"})
        snapshot = WorkingTree(repository.root / "desired").read(DEFAULTS)
        assert (snapshot.commit, snapshot.is_dirty) == (commit, True)

    def test_a_repository_without_commits_has_none_to_name(self, repository):
        repository.write({"f.yaml": "a"})
        snapshot = WorkingTree(repository.root).read(DEFAULTS)
        assert (snapshot.commit, snapshot.is_dirty, snapshot.repository) == (None, True, None)

    def test_a_repository_in_the_environment_is_not_taken_for_the_one_around_the_folder(
        self, repository, tmp_path, monkeypatch
    ):
        commit = repository.commit({"f.yaml": "a"})
        other = type(repository)(tmp_path / "other")
        other.commit({"g.yaml": "b"})
        monkeypatch.setenv("GIT_DIR", str(other.root / ".git"))
        assert WorkingTree(repository.root).read(DEFAULTS).commit == commit

    def test_the_repository_is_named_without_the_credentials_in_its_remote(self, repository):
        repository.commit({"f.yaml": "a"})
        repository.git("remote", "add", "origin", "https://user:secret@GitHub.com/acme/fleet.git")
        assert WorkingTree(repository.root).read(DEFAULTS).repository == "github.com/acme/fleet"


class TestGitRef:
    def test_a_ref_is_read_from_the_object_database_without_touching_the_tree(self, repository, documents, now):
        old = repository.commit({"desired/fleet.yaml": documents["fleet"], "desired/sub/p.yaml": documents["policy"]})
        repository.git("tag", "v1")
        repository.commit({"desired/fleet.yaml": documents["fleet"].replace("plant", "renamed")})
        repository.write({"desired/fleet.yaml": "edited and wrong"})
        before = repository.git("status", "--porcelain=v2")
        for ref in ("v1", old, old[:10], "main~1", "HEAD^"):
            (state,) = load(GitRef(repository.root / "desired", ref), now=now)
            assert (state.fleet.name, state.commit, state.is_dirty) == ("plant", old, False)
            assert state.policies[0].source.path == "desired/sub/p.yaml"
        (head,) = load(GitRef(repository.root / "desired", "HEAD"), now=now)
        assert head.fleet.name == "renamed"
        assert repository.git("status", "--porcelain=v2") == before
        assert (repository.root / "desired/fleet.yaml").read_text() == "edited and wrong"

    def test_a_folder_that_only_the_ref_holds_is_read(self, repository, documents, now):
        repository.commit({"old/f.yaml": documents["fleet"]})
        repository.git("rm", "--quiet", "-r", "old")
        repository.commit()
        (state,) = load(GitRef(repository.root / "old", "HEAD~1"), now=now)
        assert state.fleet.name == "plant"

    def test_a_folder_that_the_ref_lacks_is_told(self, repository):
        repository.commit({"a": "", "b/f.yaml": ""})
        for name in ("nowhere", "a", "b/c"):
            with pytest.raises(GitError, match=f"{name}: found no such folder at main"):
                GitRef(repository.root / name, "main").read(DEFAULTS)

    @pytest.mark.parametrize(
        "ref", ["nope", "--help", "-h", "", "HEAD~99", "0" * 40, "main:f.yaml", "a b", "a\nb", "a\0b"]
    )
    def test_an_unknown_ref_is_told_and_never_taken_for_an_option(self, repository, ref):
        repository.commit({"f.yaml": ""})
        with pytest.raises(GitError, match="found no ref") as raised:
            GitRef(repository.root, ref).read(DEFAULTS)
        assert "git rev-parse" in (raised.value.remedy or "")

    def test_a_shallow_clone_says_how_to_get_the_rest(self, repository, tmp_path):
        first = repository.commit({"f.yaml": "1"})
        repository.commit({"f.yaml": "2"})
        repository.git("clone", "--quiet", "--depth=1", f"file://{repository.root}", str(tmp_path / "shallow"))
        with pytest.raises(GitError, match="this clone, which is shallow") as raised:
            GitRef(tmp_path / "shallow", first).read(DEFAULTS)
        assert "fetch-depth: 0" in (raised.value.remedy or "")

    def test_without_a_repository_there_are_no_refs(self, tmp_path):
        with pytest.raises(GitError, match="found no git repository, which the ref 'main' needs"):
            GitRef(tmp_path / "desired", "main").read(DEFAULTS)

    def test_links_submodules_and_broken_names_of_a_ref_are_refused(self, repository, tmp_path):
        inner = type(repository)(tmp_path / "inner")
        inner.commit({"x.yaml": "x"})
        repository.write({"d/a.yaml": "a", "d/b\tc.yaml": "b", "d/.github/e.yaml": "", "d/README.md": ""})
        (repository.root / "d/link.yaml").symlink_to("/etc/passwd")
        (repository.root / "d/folder").symlink_to("..")
        repository.git("submodule", "--quiet", "add", str(inner.root), "d/sub")
        repository.commit()
        snapshot = GitRef(repository.root / "d", "HEAD").read(DEFAULTS)
        assert [file.path for file in snapshot.files] == ["d/a.yaml"]
        assert [str(problem) for problem in snapshot.problems] == [
            "'d/b\\tc.yaml':1: the name has unprintable characters; allowed: printable text",
            "d/folder:1: found a symbolic link; allowed: regular files and folders",
            "d/link.yaml:1: found a symbolic link; allowed: regular files and folders",
            "d/sub:1: found a submodule; allowed: regular files and folders",
        ]

    def test_a_ref_is_bounded_like_a_folder(self, repository):
        repository.commit({"large.yaml": "x" * 11, "1/2/deep.yaml": "x"})
        snapshot = GitRef(repository.root, "HEAD").read(Limits(max_file_bytes=10, max_folder_depth=1))
        assert [str(problem) for problem in snapshot.problems] == [
            "1/2/deep.yaml:1: lies deeper than 1 folders",
            "large.yaml:1: the file has 11 bytes; allowed: at most 10",
        ]

    def test_a_bare_repository_has_no_folder(self, repository, tmp_path):
        repository.commit({"f.yaml": "1"})
        repository.git("clone", "--quiet", "--bare", str(repository.root), str(tmp_path / "bare"))
        with pytest.raises(GitError, match="found a bare repository"):
            GitRef(tmp_path / "bare", "main").read(DEFAULTS)

    def test_a_repository_of_somebody_else_is_not_read_and_the_error_says_what_to_do(self, repository, monkeypatch):
        repository.commit({"f.yaml": "1"})
        monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
        with pytest.raises(GitError, match="git refuses to read") as raised:
            GitRef(repository.root, "main").read(DEFAULTS)
        assert "safe.directory" in (raised.value.remedy or "")

    def test_a_machine_without_git_is_told_so(self, repository, monkeypatch):
        repository.commit({"f.yaml": "1"})
        monkeypatch.setattr(module.shutil, "which", lambda _name: None)
        with pytest.raises(GitError, match="found no git command"):
            WorkingTree(repository.root).read(DEFAULTS)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://github.com/acme/fleet.git", "github.com/acme/fleet"),
        ("https://x-access-token:ghs_secret@github.com/acme/fleet", "github.com/acme/fleet"),
        ("git@github.com:acme/fleet.git", "github.com/acme/fleet"),
        ("ssh://git@GitHub.com:22/acme/fleet.git/", "github.com/acme/fleet"),
        ("https://git.example.com/a/b/c", "git.example.com/a/b/c"),
        ("/srv/git/fleet.git", "file:/srv/git/fleet"),
        ("file:///srv/git/fleet", "file:/srv/git/fleet"),
    ],
)
def test_a_repository_has_one_name_however_it_was_cloned(url, name):
    assert repository_name(url) == name
