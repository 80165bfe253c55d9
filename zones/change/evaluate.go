package change

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/expr-lang/expr/ast"
)

// value is a value of the condition language; which field counts, the checker knew.
type value struct {
	b    bool
	i    int
	s    string
	list []string
}

// evaluator evaluates a checked expression: the types are right, and the nodes few.
type evaluator struct {
	subject Subject
	records []string // of the subject, made when first asked for
	made    bool
}

func (e *evaluator) eval(n ast.Node) (v value, err error) {
	switch n := n.(type) {
	case *ast.BoolNode:
		return value{b: n.Value}, nil
	case *ast.IntegerNode:
		return value{i: n.Value}, nil
	case *ast.StringNode:
		return value{s: n.Value}, nil
	case *ast.IdentifierNode:
		return e.variable(n.Value), nil
	case *ast.ArrayNode:
		for _, element := range n.Nodes {
			item, err := e.eval(element)
			if err != nil {
				return value{}, err
			}
			v.list = append(v.list, item.s)
		}
		return v, nil
	case *ast.UnaryNode:
		if v, err = e.eval(n.Node); err != nil {
			return value{}, err
		}
		if n.Operator == "-" {
			return value{i: -v.i}, nil
		}
		return value{b: !v.b}, nil
	case *ast.BinaryNode:
		return e.binary(n)
	case *ast.ConditionalNode:
		if v, err = e.eval(n.Cond); err != nil {
			return value{}, err
		}
		if v.b {
			return e.eval(n.Exp1)
		}
		return e.eval(n.Exp2)
	case *ast.MemberNode:
		from, err := e.eval(n.Node)
		if err != nil {
			return value{}, err
		}
		at, err := e.eval(n.Property)
		if err != nil {
			return value{}, err
		}
		i := at.i
		if i < 0 {
			i += len(from.list) // from the end, as in expr-lang
		}
		if i < 0 || i >= len(from.list) {
			return value{}, fmt.Errorf("index %d is out of range of %d records", at.i, len(from.list))
		}
		return value{s: from.list[i]}, nil
	case *ast.BuiltinNode:
		return e.call(n)
	}
	return value{}, fmt.Errorf("unchecked node %T", n)
}

func (e *evaluator) variable(name string) value {
	s := e.subject
	switch name {
	case "exists":
		return value{b: !s.RRset.IsZero()}
	case "owner":
		return value{s: s.Owner.String()}
	case "type":
		return value{s: s.Type.String()}
	case "ttl":
		return value{i: int(s.RRset.TTL)}
	case "count":
		return value{i: s.RRset.Len()}
	case "serial":
		return value{i: int(s.Serial)}
	case "zone":
		return value{s: s.Zone.String()}
	}
	if !e.made { // records
		e.made = true
		for rdata := range s.RRset.RDatas() {
			e.records = append(e.records, recordText(s.Type, rdata))
		}
	}
	return value{list: e.records}
}

var errConcat = errors.New("a string grows too long")

func (e *evaluator) binary(n *ast.BinaryNode) (value, error) {
	left, err := e.eval(n.Left)
	if err != nil {
		return value{}, err
	}
	switch n.Operator { // these look at the right side only when they need it
	case "and", "&&":
		if !left.b {
			return value{b: false}, nil
		}
		return e.eval(n.Right)
	case "or", "||":
		if left.b {
			return value{b: true}, nil
		}
		return e.eval(n.Right)
	}
	right, err := e.eval(n.Right)
	if err != nil {
		return value{}, err
	}
	// The fields that do not count are zero on both sides, so that whole values can be compared.
	order := 0
	switch {
	case left.i != right.i:
		order = 1
		if left.i < right.i {
			order = -1
		}
	default:
		order = strings.Compare(left.s, right.s)
	}
	switch n.Operator {
	case "==":
		return value{b: left.b == right.b && order == 0 && slices.Equal(left.list, right.list)}, nil
	case "!=":
		return value{b: left.b != right.b || order != 0 || !slices.Equal(left.list, right.list)}, nil
	case "<":
		return value{b: order < 0}, nil
	case "<=":
		return value{b: order <= 0}, nil
	case ">":
		return value{b: order > 0}, nil
	case ">=":
		return value{b: order >= 0}, nil
	case "in":
		return value{b: slices.Contains(right.list, left.s)}, nil
	case "contains":
		return value{b: strings.Contains(left.s, right.s)}, nil
	case "startsWith":
		return value{b: strings.HasPrefix(left.s, right.s)}, nil
	case "endsWith":
		return value{b: strings.HasSuffix(left.s, right.s)}, nil
	case "-":
		return value{i: left.i - right.i}, nil
	}
	if len(left.s)+len(right.s) > maxConcat { // +
		return value{}, errConcat
	}
	return value{i: left.i + right.i, s: left.s + right.s}, nil
}

func (e *evaluator) call(n *ast.BuiltinNode) (value, error) {
	v, err := e.eval(n.Arguments[0])
	if err != nil {
		return value{}, err
	}
	switch n.Name {
	case "len":
		return value{i: utf8.RuneCountInString(v.s) + len(v.list)}, nil
	case "lower":
		return value{s: mapASCII(v.s, 'A', 'Z', 'a'-'A')}, nil
	default: // upper
		return value{s: mapASCII(v.s, 'a', 'z', -('a' - 'A'))}, nil
	}
}

// mapASCII shifts the letters from first to last. Case beyond ASCII changes with versions of Unicode, and means
// nothing in DNS.
func mapASCII(s string, first, last byte, shift int) string {
	b := []byte(s)
	for i, c := range b {
		if first <= c && c <= last {
			b[i] = byte(int(c) + shift)
		}
	}
	return string(b)
}
