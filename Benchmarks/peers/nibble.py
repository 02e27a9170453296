"""NibbleKV, through the program `nibble`."""

import json
import subprocess


class Nibble:
    def __init__(self, program, policies):
        self.program = program
        self.policies = policies

    def bench(self, command, threads, tokens, query_heads, kv_heads, *more):
        """The rows of `nibble bench COMMAND --json`."""
        arguments = [
            *("--policies", ",".join(self.policies), "--context", str(tokens), "--threads", str(threads)),
            *("--query-heads", str(query_heads), "--kv-heads", str(kv_heads), "--head-dim", "128", "--json"),
        ]
        done = subprocess.run(
            [self.program, "bench", command, *arguments, *map(str, more)],
            check=True,
            stdout=subprocess.PIPE,
        )
        return json.loads(done.stdout)["rows"]
