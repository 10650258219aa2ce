"""What lorahub does not do by design, of what huggingface_hub's tests ask for; and what can't be run here."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Rule:
    """says: a pattern of what the failing test says.  reason: as the documentation gives it.  tests: of its name."""

    says: str
    reason: str
    tests: str = ""

    def fits(self, name: str, said: str) -> bool:
        return re.search(self.tests, name) is not None and re.search(self.says, said, re.DOTALL) is not None


REFUSED: tuple[Rule, ...] = (
    Rule(r"it has no (dataset|space)s|/api/spaces/", "data sets and spaces: lorahub keeps adapters"),
    Rule(
        r"is never stored: it is a pickle|PeftModel\.from_pretrained\(b",
        "pickles: `.bin` and the like are never stored",
    ),
    Rule(r"/api/buckets", "buckets"),
    Rule(r"/discussions|takes no pull requests", "discussions and pull requests"),
    Rule(r"/api/settings/webhooks", "the Hub's webhooks: lorahub has its own, in `/api/v1`"),
    Rule(r"/api/collections", "collections"),
    Rule(r"/like", "likes"),
    Rule(r"can't be squashed", "squashing: published versions never change"),
    Rule(r"keeps its name", "moving: whoever refers to a name must find it"),
    Rule(r"can't be tagged|reads as a version", "a tag names a version, and is not called as one (`v0`)"),
    Rule(r"has no file 'branch\.txt'", "a branch shows versions, not a file alone", r"_repo_file_from_revision$"),
    Rule(
        r"'logs/data\.csv' in \[\]|'data\.parquet' in \[\]|no file 'buffer'|awful\?filename",
        "files of kinds that no adapter needs are left out, and the client says so",
        r"_to_repo_prefix$|_upload_data_files_|test_create_commit$|AwfulFilenames",
    ),
    Rule(
        r"Skipping upload for",
        "while a draft waits, no file counts as sent: each commit is told what is missing",
        r"_commit_if_only_deletion$",
    ),
    Rule(r"422 UNPROCESSABLE", "names that lead out of a folder on some system are refused", r"DownloadRelativePaths"),
    Rule(r"There is no adapter", "who asks for what isn't there is told how to look for it", r"_repo_does_not_exist$"),
    Rule(r"'image\.png'", "LFS is for `.safetensors` and files above 10 MB", r"_lfs_file_implicit_token$"),
)

NOT_RUN: tuple[Rule, ...] = (
    Rule(r"Name or service not known", "asks the public Hub"),
    Rule(r"hf_suite/fixtures/", "needs files that the source package leaves out"),
    Rule(
        "", "is of the client alone, with the public Hub's address", r"test_fix_hf_endpoint_in_url|test_list_catalog$"
    ),
    Rule("", "needs an organization of the public test server", r"test_whoami_with_passing_token$"),
)
