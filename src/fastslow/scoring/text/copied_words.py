"""Whether a chat template only copies the words of turns, which its source tells.

It does where words go to the output as they are or trimmed, and nothing is asked of them: not
whether they are empty, not how they end. What it writes around them then depends on roles alone.
Only the plainest templates are recognised; of any other the answer is no.
"""

from jinja2 import Environment, TemplateSyntaxError, nodes

WORDS = "content"
TYPES = {"defined", "undefined", "none", "string", "mapping", "iterable", "sequence"}
"""Tests that say the same of all words."""
TESTS = TYPES | {"odd", "even", "divisibleby", "true", "false", "boolean", "number", "integer"}
CALLS = {"raise_exception", "namespace", "range"}
ARITHMETIC = (nodes.Sub, nodes.Mul, nodes.Div, nodes.FloorDiv, nodes.Mod, nodes.Neg, nodes.Not)
LOGIC = (nodes.And, nodes.Or, nodes.Operand, nodes.Slice)
STATEMENTS = (nodes.Template, nodes.Break, nodes.Continue, nodes.Keyword)


def copies_words(source: str) -> bool:
    """Whether the template of that source only copies words."""
    try:
        tree = Environment(extensions=["jinja2.ext.loopcontrols"]).parse(source)
    except TemplateSyntaxError:  # It has tags of transformers, or is no template.
        return False
    reading, named = _Reading(), -1
    while len(reading.names) > named:  # A loop may read what is assigned below.
        named = len(reading.names)
        if not reading.allows(tree, copied=True):
            return False
    return True


class _Reading:
    """One pass over the source; `names` are the variables that hold words."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def allows(self, node: nodes.Node, *, copied: bool) -> bool:
        """Whether a node asks nothing of words. `copied`: its value goes to the output only."""
        match node:
            case nodes.Getattr(attr="content") | nodes.Getitem(arg=nodes.Const(value="content")):
                return copied and self.allows(node.node, copied=False)
            case nodes.Name():
                return copied or node.ctx == "store" or node.name not in self.names
            case nodes.Output() | nodes.Concat() | nodes.Add():
                inside = copied or isinstance(node, nodes.Output)
                return self._all(node, copied=inside)
            case nodes.Const() | nodes.TemplateData():
                return True
            case nodes.CondExpr():
                ways = [way for way in (node.expr1, node.expr2) if way is not None]
                asked = self.allows(node.test, copied=False)
                return asked and all(self.allows(way, copied=copied) for way in ways)
            case nodes.Assign():
                return self._assigns(node)
            case nodes.If() | nodes.For():
                return self._branches(node)
            case nodes.Compare():
                sides = [node.expr, *(op.expr for op in node.ops)]
                return not all(map(_may_be_turns, sides)) and self._all(node, copied=False)
            case nodes.Test():
                known = node.name in TESTS
                return known and self._all(node, copied=node.name in TYPES)
            case nodes.Filter() | nodes.Call():
                return self._called(node, copied)
            case nodes.Getattr() | nodes.Getitem():
                return _is_fixed(node) and self._all(node, copied=False)
            case nodes.Mod(left=nodes.Const(value=str())):
                return False
        known = isinstance(node, (*ARITHMETIC, *LOGIC, *STATEMENTS))
        return known and self._all(node, copied=isinstance(node, STATEMENTS))

    def _all(self, node: nodes.Node, *, copied: bool) -> bool:
        return all(self.allows(child, copied=copied) for child in node.iter_child_nodes())

    def _assigns(self, node: nodes.Assign) -> bool:
        if not isinstance(node.target, nodes.Name):
            return self.allows(node.node, copied=False)
        if any(map(self._is_words, (node.node, *node.node.find_all(nodes.Expr)))):
            self.names.add(node.target.name)
        return self.allows(node.node, copied=True)

    def _branches(self, node: nodes.If | nodes.For) -> bool:
        asked = [node.test] if isinstance(node, nodes.If) else [node.iter, node.test]
        inside = [*node.body, *node.else_, *(node.elif_ if isinstance(node, nodes.If) else [])]
        return all(self.allows(one, copied=False) for one in asked if one is not None) and all(
            self.allows(one, copied=True) for one in inside
        )

    def _called(self, node: nodes.Filter | nodes.Call, copied: bool) -> bool:
        bare = not (node.args or node.kwargs or node.dyn_args or node.dyn_kwargs)
        if isinstance(node, nodes.Filter):
            trims, of = node.name == "trim" and bare, node.node
            counts = node.name == "length" and bare
        else:
            trims = bare and isinstance(node.node, nodes.Getattr) and node.node.attr == "strip"
            of = node.node.node if isinstance(node.node, nodes.Getattr) else None
            counts = isinstance(node.node, nodes.Name) and node.node.name in CALLS
        if trims and of is not None and self._is_words(of):
            return self.allows(of, copied=copied)
        return counts and self._all(node, copied=False)

    def _is_words(self, node: nodes.Node) -> bool:
        match node:
            case nodes.Getattr(attr="content") | nodes.Getitem(arg=nodes.Const(value="content")):
                return True
        return isinstance(node, nodes.Name) and node.name in self.names


def _is_fixed(node: nodes.Getattr | nodes.Getitem) -> bool:
    """Whether what is taken out of something has a name or a place in the source."""
    if isinstance(node, nodes.Getattr):
        return not node.attr.startswith("_")
    place = node.arg.node if isinstance(node.arg, nodes.Neg) else node.arg
    return isinstance(place, nodes.Const | nodes.Slice)


def _may_be_turns(node: nodes.Node) -> bool:
    """Whether a value may be a turn or several, whose words a comparison would look at."""
    if isinstance(node, nodes.Getitem):
        return not (isinstance(node.arg, nodes.Const) and isinstance(node.arg.value, str))
    if isinstance(node, nodes.Getattr):
        return node.attr in ("previtem", "nextitem")
    return isinstance(node, nodes.Name | nodes.List | nodes.Tuple | nodes.Dict | nodes.CondExpr)
