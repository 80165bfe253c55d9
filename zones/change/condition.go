package change

import (
	"errors"
	"fmt"
	"strings"

	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/parser"

	"balefire/zones"
)

// A condition is written in a small part of the expr-lang language: docs/conditions.md says which, for users. The
// language's own parser reads it; what it means is decided here, by a checker and an evaluator that know nothing else.
// So no future version of the language can change what old records mean, nothing loops, and
// nothing is evaluated that was not checked.

const (
	maxVisits     = 256     // nodes that are looked at: shared ones count each time, so that nothing grows with depth
	maxConcat     = 8 << 10 // octets that + may make of strings
	maxConditions = MaxExpression
)

// Subject is what a condition is about: an owner name, a type, and the RRset present there, zero when there is none.
type Subject struct {
	Zone   zones.Name
	Serial zones.Serial
	Owner  zones.Name
	Type   zones.Type
	RRset  zones.RRset
}

// Condition is a checked expression. It may be used by many goroutines at once.
type Condition struct{ root ast.Node }

// ParseCondition reads an expression, and refuses all that is not of the subset. What it accepts is of a known type
// throughout, and evaluating it costs little. Errors are for the user who wrote it.
func ParseCondition(text string) (*Condition, error) {
	if len(text) > maxConditions {
		return nil, fmt.Errorf("a condition takes at most %d octets", maxConditions)
	}
	tree, err := parser.Parse(text)
	if err != nil {
		// The message repeats the text and points into it, over several lines: the first says it all.
		line, _, _ := strings.Cut(err.Error(), "\n")
		return nil, errors.New(line)
	}
	c := checker{}
	t, err := c.check(tree.Node)
	if err != nil {
		return nil, err
	}
	if t != boolean {
		return nil, fmt.Errorf("a condition must be true or false, and this is %s", t)
	}
	return &Condition{root: tree.Node}, nil
}

// Holds evaluates the condition. It fails only where the subset cannot: an index out of range, or a string that
// grows too long.
func (c *Condition) Holds(s Subject) (bool, error) {
	e := evaluator{subject: s}
	v, err := e.eval(c.root)
	return v.b, err
}

// kind is a type of the condition language.
type kind uint8

const (
	invalid kind = iota
	boolean
	integer
	text
	list // of strings
)

func (k kind) String() string {
	return [...]string{"nothing", "a boolean", "an integer", "a string", "a list of strings"}[k]
}

// variables are what an expression can name.
var variables = map[string]kind{
	"exists": boolean, "owner": text, "type": text, "ttl": integer, "count": integer, "records": list,
	"serial": integer, "zone": text,
}

type checker struct{ visits int }

// check returns the type of n, or why it is not of the subset.
func (c *checker) check(n ast.Node) (kind, error) {
	if c.visits++; c.visits > maxVisits {
		return invalid, fmt.Errorf("a condition has at most %d parts", maxVisits)
	}
	switch n := n.(type) {
	case *ast.BoolNode:
		return boolean, nil
	case *ast.IntegerNode:
		return integer, nil
	case *ast.StringNode:
		return text, nil
	case *ast.IdentifierNode:
		if k, ok := variables[n.Value]; ok {
			return k, nil
		}
		return invalid, fmt.Errorf("there is no variable %q", n.Value)
	case *ast.ArrayNode:
		for _, element := range n.Nodes {
			if k, err := c.check(element); err != nil {
				return invalid, err
			} else if k != text {
				return invalid, fmt.Errorf("a list holds strings only, and not %s", k)
			}
		}
		return list, nil
	case *ast.UnaryNode:
		k, err := c.check(n.Node)
		if err != nil {
			return invalid, err
		}
		switch {
		case (n.Operator == "not" || n.Operator == "!") && k == boolean:
			return boolean, nil
		case n.Operator == "-" && k == integer:
			return integer, nil
		}
		return invalid, fmt.Errorf("operator %q can't be used with %s", n.Operator, k)
	case *ast.BinaryNode:
		return c.binary(n)
	case *ast.ConditionalNode:
		return c.conditional(n)
	case *ast.MemberNode:
		left, err := c.check(n.Node)
		if err != nil {
			return invalid, err
		}
		at, err := c.check(n.Property)
		if err != nil {
			return invalid, err
		}
		if left != list || at != integer || n.Optional || n.Method {
			return invalid, errors.New("only lists have members, by index: records[0]")
		}
		return text, nil
	case *ast.BuiltinNode:
		return c.call(n)
	}
	return invalid, fmt.Errorf("conditions can't use %s", describe(n))
}

func (c *checker) binary(n *ast.BinaryNode) (kind, error) {
	left, err := c.check(n.Left)
	if err != nil {
		return invalid, err
	}
	right, err := c.check(n.Right)
	if err != nil {
		return invalid, err
	}
	switch n.Operator {
	case "and", "&&", "or", "||":
		if left == boolean && right == boolean {
			return boolean, nil
		}
	case "==", "!=":
		if left == right {
			return boolean, nil
		}
	case "<", "<=", ">", ">=":
		if left == right && (left == integer || left == text) {
			return boolean, nil
		}
	case "in":
		if left == text && right == list {
			return boolean, nil
		}
	case "contains", "startsWith", "endsWith":
		if left == text && right == text {
			return boolean, nil
		}
	case "+":
		if left == right && (left == integer || left == text) {
			return left, nil
		}
	case "-":
		if left == integer && right == integer {
			return integer, nil
		}
	default:
		return invalid, fmt.Errorf("conditions can't use operator %q", n.Operator)
	}
	return invalid, fmt.Errorf("operator %q can't be used between %s and %s", n.Operator, left, right)
}

func (c *checker) conditional(n *ast.ConditionalNode) (kind, error) {
	cond, err := c.check(n.Cond)
	if err != nil {
		return invalid, err
	}
	first, err := c.check(n.Exp1)
	if err != nil {
		return invalid, err
	}
	second, err := c.check(n.Exp2)
	if err != nil {
		return invalid, err
	}
	if cond != boolean || first != second {
		return invalid, fmt.Errorf("a choice is between two of one type by a boolean, not by %s between %s and %s", cond, first, second)
	}
	return first, nil
}

func (c *checker) call(n *ast.BuiltinNode) (kind, error) {
	switch n.Name {
	case "len", "lower", "upper":
	default:
		return invalid, fmt.Errorf("conditions can't use function %q", n.Name)
	}
	if len(n.Arguments) != 1 {
		return invalid, fmt.Errorf("function %q takes one argument", n.Name)
	}
	k, err := c.check(n.Arguments[0])
	switch {
	case err != nil:
		return invalid, err
	case n.Name == "len" && (k == text || k == list):
		return integer, nil
	case n.Name != "len" && k == text:
		return text, nil
	}
	return invalid, fmt.Errorf("function %q can't be used with %s", n.Name, k)
}

// describe names a node that is not of the subset, for the user.
func describe(n ast.Node) string {
	switch n := n.(type) {
	case *ast.NilNode:
		return "nil"
	case *ast.FloatNode:
		return "numbers with a fraction"
	case *ast.BytesNode:
		return "byte strings"
	case *ast.PredicateNode, *ast.PointerNode:
		return "predicates"
	case *ast.CallNode:
		if callee, ok := n.Callee.(*ast.IdentifierNode); ok {
			return fmt.Sprintf("function %q", callee.Value)
		}
		return "methods"
	case *ast.MapNode, *ast.PairNode:
		return "maps"
	case *ast.SliceNode:
		return "slices"
	case *ast.ChainNode:
		return "optional chaining"
	case *ast.VariableDeclaratorNode:
		return `"let"`
	case *ast.SequenceNode:
		return `";"`
	}
	return fmt.Sprintf("%T", n)
}
