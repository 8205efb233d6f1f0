"""How it is run: notebook runner, tasks and engines, keys, the system under study, costs, plan,
ablations."""

import sys

# jsonschema, which every reader of notebooks imports, would build a grammar for a second: of a
# format of addresses that no notebook has, and that it does without where this module is missing
sys.modules.setdefault("rfc3987_syntax", None)
