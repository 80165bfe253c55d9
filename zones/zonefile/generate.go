package zonefile

import (
	"fmt"
	"io"
	"strconv"
	"strings"
)

// generator makes the entries of one $GENERATE directive: BIND's
// $GENERATE start-stop[/step] owner [TTL] [class] type rdata, in which $ stands for the counter and
// ${offset[,width[,base]]} for it with an offset, padded and in base d, o, x, X, n or N.
type generator struct {
	src           *source
	place         token
	i, stop, step int64
	template      []token
	budget        *int
}

func (r *Reader) newGenerator(src *source, name token, args []token) (*generator, error) {
	if r.budget < 0 {
		return nil, at(src, name, "$GENERATE is not allowed here")
	}
	if len(args) < 4 {
		return nil, at(src, name, "$GENERATE takes a range, an owner, a type and RDATA")
	}
	g := &generator{src: src, place: name, template: append([]token(nil), args[1:]...), budget: &r.budget}
	span, step, hasStep := strings.Cut(args[0].text, "/")
	start, stop, ok := strings.Cut(span, "-")
	var err1, err2, err3 error
	g.i, err1 = strconv.ParseInt(start, 10, 32)
	g.stop, err2 = strconv.ParseInt(stop, 10, 32)
	g.step = 1
	if hasStep {
		g.step, err3 = strconv.ParseInt(step, 10, 32)
	}
	if !ok || err1 != nil || err2 != nil || err3 != nil || g.i < 0 || g.stop < g.i || g.step < 1 {
		return nil, at(src, args[0], "range %q: want start-stop or start-stop/step, 0 ≤ start ≤ stop", args[0].text)
	}
	if count := (g.stop-g.i)/g.step + 1; count > int64(r.budget) {
		return nil, at(src, args[0], "%d records are more than the %d that $GENERATE may still make in this file",
			count, r.budget)
	}
	return g, nil
}

func (g *generator) next() (entry, error) {
	if g.i > g.stop {
		return entry{}, io.EOF
	}
	*g.budget--
	e := entry{line: g.place.line, tokens: make([]token, len(g.template))}
	for k, t := range g.template {
		text, err := substitute(t.text, g.i)
		if err != nil {
			return entry{}, at(g.src, t, "%v", err)
		}
		e.tokens[k] = token{text, t.quoted, t.glued, t.line, t.column}
	}
	g.i += g.step
	return e, nil
}

// substitute puts the counter into one item of the template.
func substitute(s string, i int64) (string, error) {
	var b strings.Builder
	for len(s) > 0 {
		switch {
		case strings.HasPrefix(s, `\$`):
			b.WriteByte('$')
			s = s[2:]
		case s[0] == '\\' && len(s) > 1:
			b.WriteString(s[:2])
			s = s[2:]
		case strings.HasPrefix(s, "${"):
			end := strings.IndexByte(s, '}')
			if end < 0 {
				return "", fmt.Errorf("${ without }")
			}
			text, err := counter(s[2:end], i)
			if err != nil {
				return "", err
			}
			b.WriteString(text)
			s = s[end+1:]
		case s[0] == '$':
			b.WriteString(strconv.FormatInt(i, 10))
			s = s[1:]
		default:
			b.WriteByte(s[0])
			s = s[1:]
		}
	}
	return b.String(), nil
}

// counter formats i as offset[,width[,base]] says.
func counter(spec string, i int64) (string, error) {
	bad := fmt.Errorf("${%s}: want ${offset[,width[,base]]}, width up to 255, base d, o, x, X, n or N", spec)
	parts := strings.Split(spec, ",")
	if len(parts) > 3 {
		return "", bad
	}
	offset, err := strconv.ParseInt(parts[0], 10, 32)
	if err != nil {
		return "", bad
	}
	width := uint64(0)
	if len(parts) > 1 {
		if width, err = strconv.ParseUint(parts[1], 10, 8); err != nil {
			return "", bad
		}
	}
	base := "d"
	if len(parts) > 2 {
		base = parts[2]
	}
	v := i + offset
	switch base {
	case "d", "o", "x", "X":
		return fmt.Sprintf("%0*"+base, int(width), v), nil
	case "n", "N":
		if v < 0 {
			return "", bad
		}
		return nibbles(uint64(v), int(width), base == "N"), nil
	}
	return "", bad
}

// nibbles writes v in hexadecimal, its digits in reverse and parted by dots, as ip6.arpa wants them.
// width counts digits and dots.
func nibbles(v uint64, width int, upper bool) string {
	var b strings.Builder
	for {
		digit := strconv.FormatUint(v&15, 16)
		if upper {
			digit = strings.ToUpper(digit)
		}
		b.WriteString(digit)
		v >>= 4
		if v == 0 && b.Len() >= width-1 {
			return b.String()
		}
		b.WriteByte('.')
	}
}
