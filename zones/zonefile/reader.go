package zonefile

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"balefire/zones"
)

// Reader reads records one by one. It is not safe for concurrent use.
type Reader struct {
	opts   Options
	files  []*source // the innermost included file last
	budget int       // $GENERATE records left
	gen    *generator
	done   error
}

// source is one open file and what RFC 1035 §5.1 says is its own: origin and last owner.
type source struct {
	lex    *lexer
	closer io.Closer
	origin zones.Name
	owner  zones.Name
	ttl    uint32 // $TTL, or the last one stated
	hasTTL bool
	fixed  bool // ttl came from $TTL (RFC 2308 §4)
}

// NewReader returns a Reader of r, which the caller closes.
func NewReader(r io.Reader, opts Options) *Reader {
	if opts.File == "" {
		opts.File = "zone"
	}
	buffer := fileBuffer
	if held, ok := r.(interface{ Len() int }); ok { // it is in memory, and mostly small
		buffer = min(held.Len(), fileBuffer)
	}
	budget := opts.GenerateBudget
	if budget == 0 {
		budget = DefaultGenerateBudget
	}
	return &Reader{
		opts:   opts,
		budget: budget,
		files: []*source{{
			lex: newLexer(r, opts.File, buffer), origin: opts.Origin, ttl: opts.DefaultTTL, hasTTL: opts.DefaultTTL > 0,
		}},
	}
}

// Origin returns the origin in force: after reading, the one of the main file's end.
func (r *Reader) Origin() zones.Name { return r.files[0].origin }

// Next returns the next record; io.EOF after the last one, an *Error for a mistake in the file. After an
// error, it returns the same one again.
func (r *Reader) Next() (Record, error) {
	if r.done != nil {
		return Record{}, r.done
	}
	rec, err := r.next()
	if err != nil {
		r.done = err
		for _, f := range r.files[1:] {
			_ = f.closer.Close() // read-only
		}
		r.files = r.files[:1]
	}
	return rec, err
}

func (r *Reader) next() (Record, error) {
	for {
		src := r.files[len(r.files)-1]
		if r.gen != nil {
			e, err := r.gen.next()
			if err == nil {
				return r.record(src, e)
			}
			if err != io.EOF {
				return Record{}, err
			}
			r.gen = nil
			continue
		}
		e, err := src.lex.next()
		if err == io.EOF && len(r.files) > 1 {
			_ = src.closer.Close() // read-only
			r.files = r.files[:len(r.files)-1]
			continue
		}
		if err != nil {
			return Record{}, err
		}
		if t := e.tokens[0]; !e.indent && !t.quoted && strings.HasPrefix(t.text, "$") {
			if err := r.directive(src, e); err != nil {
				return Record{}, err
			}
			continue
		}
		return r.record(src, e)
	}
}

func at(src *source, t token, format string, args ...any) error {
	return src.lex.fail(t.line, t.column, fmt.Sprintf(format, args...))
}

func (r *Reader) directive(src *source, e entry) error {
	name, args := e.tokens[0], e.tokens[1:]
	want := func(low, high int, form string) error {
		if len(args) < low || len(args) > high {
			return at(src, name, "%s takes %s", strings.ToUpper(name.text), form)
		}
		return nil
	}
	switch strings.ToUpper(name.text) {
	case "$ORIGIN":
		if err := want(1, 1, "one name"); err != nil {
			return err
		}
		origin, err := src.name(args[0])
		if err != nil {
			return err
		}
		src.origin = origin
	case "$TTL":
		if err := want(1, 1, "one TTL"); err != nil {
			return err
		}
		ttl, err := parseTTL(args[0].text)
		if err != nil {
			return at(src, args[0], "%v", err)
		}
		src.ttl, src.hasTTL, src.fixed = ttl, true, true
	case "$INCLUDE":
		if err := want(1, 2, "a file and, if need be, an origin"); err != nil {
			return err
		}
		return r.include(src, name, args)
	case "$GENERATE":
		gen, err := r.newGenerator(src, name, args)
		if err != nil {
			return err
		}
		r.gen = gen
	default:
		return at(src, name, "unknown directive %s: want $ORIGIN, $TTL, $INCLUDE or $GENERATE", name.text)
	}
	return nil
}

func (r *Reader) include(src *source, name token, args []token) error {
	if !r.opts.AllowInclude {
		return at(src, name, "$INCLUDE is allowed only for files named on the command line")
	}
	if len(r.files) > maxIncludeDepth {
		return at(src, name, "files include one another more than %d deep", maxIncludeDepth)
	}
	origin := src.origin
	if len(args) == 2 {
		var err error
		if origin, err = src.name(args[1]); err != nil {
			return err
		}
	}
	path := args[0].text
	if !filepath.IsAbs(path) {
		path = filepath.Join(filepath.Dir(src.lex.file), path)
	}
	f, err := os.Open(path)
	if err != nil {
		return at(src, args[0], "%v", err)
	}
	// RFC 1035 §5.1: an included file never changes the origin, or owner, of the one that includes it.
	r.files = append(r.files, &source{
		lex: newLexer(f, path, fileBuffer), closer: f, origin: origin, owner: src.owner,
		ttl: src.ttl, hasTTL: src.hasTTL, fixed: src.fixed,
	})
	return nil
}

func (src *source) name(t token) (zones.Name, error) {
	if t.quoted {
		return "", at(src, t, "a name must not be in quotes")
	}
	if src.origin == "" && !endsInDot(t.text) {
		return "", at(src, t, "relative name %q without an origin: begin with $ORIGIN, or end it with a dot", t.text)
	}
	n, err := zones.ParseNameIn(t.text, src.origin)
	if err != nil {
		return "", at(src, t, "%v", err)
	}
	return n, nil
}

// endsInDot reports whether text ends in a dot that is not escaped.
func endsInDot(text string) bool {
	body, ok := strings.CutSuffix(text, ".")
	if !ok {
		return false
	}
	slashes := len(body) - len(strings.TrimRight(body, `\`))
	return slashes%2 == 0
}

// record reads [owner] [TTL] [class] type RDATA, TTL and class in either order.
func (r *Reader) record(src *source, e entry) (Record, error) {
	rest := e.tokens
	first := rest[0]
	rec := Record{File: src.lex.file, Line: first.line, Column: first.column}
	if e.indent {
		if src.owner == "" {
			return rec, at(src, first, "no owner name: the first record of a file must state one")
		}
	} else {
		owner, err := src.name(first)
		if err != nil {
			return rec, err
		}
		src.owner, rest = owner, rest[1:]
	}
	rec.Owner = src.owner
	ttl, hasTTL, hasClass := src.ttl, false, false
	for len(rest) > 0 && !rest[0].quoted {
		t := rest[0]
		if !hasTTL && t.text != "" && '0' <= t.text[0] && t.text[0] <= '9' {
			v, err := parseTTL(t.text)
			if err != nil {
				return rec, at(src, t, "%v", err)
			}
			ttl, hasTTL = v, true
		} else if class, ok := parseClass(t.text); ok && !hasClass {
			if class != 1 {
				return rec, at(src, t, "class %s: only IN is served", t.text)
			}
			hasClass = true
		} else {
			break
		}
		rest = rest[1:]
	}
	if len(rest) == 0 {
		return rec, at(src, e.tokens[len(e.tokens)-1], "record without a type")
	}
	typ, err := zones.ParseType(rest[0].text)
	if err != nil || rest[0].quoted {
		return rec, at(src, rest[0], "%q is not a TTL, the class IN or a type", rest[0].text)
	}
	if typ.IsMeta() {
		return rec, at(src, rest[0], "%s records exist only in messages", typ)
	}
	rec.Type = typ
	typeToken, rest := rest[0], rest[1:]
	if rec.RData, err = parseTokens(typ, rest, src.origin); err != nil {
		var bad *rdataError
		if errors.As(err, &bad) {
			place := typeToken
			if len(rest) > 0 {
				place = rest[min(bad.token, len(rest)-1)]
			}
			return rec, at(src, place, "%s: %s", typ, bad.msg)
		}
		return rec, err
	}
	switch {
	case hasTTL:
		if !src.fixed {
			src.ttl, src.hasTTL = ttl, true
		}
	case !src.hasTTL && typ == zones.TypeSOA:
		// RFC 2308 §4 leaves a SOA without any TTL open; its MINIMUM is what it once meant.
		minimum := rec.RData[len(rec.RData)-4:]
		ttl = uint32(minimum[0])<<24 | uint32(minimum[1])<<16 | uint32(minimum[2])<<8 | uint32(minimum[3])
		src.ttl, src.hasTTL = ttl, true
	case !src.hasTTL:
		return rec, at(src, first, "no TTL: state one, or begin with $TTL")
	}
	if ttl > zones.MaxTTL {
		return rec, at(src, first, "TTL %d: %v", ttl, zones.ErrTTLOutOfRange)
	}
	rec.TTL = ttl
	return rec, nil
}

func parseClass(s string) (uint16, bool) {
	switch strings.ToUpper(s) {
	case "IN", "CLASS1":
		return 1, true
	case "CH", "CLASS3":
		return 3, true
	case "HS", "CLASS4":
		return 4, true
	case "CS", "CLASS2":
		return 2, true
	}
	return 0, false
}

// parseTTL reads seconds, or BIND's form with units: 1w2d3h4m5s.
func parseTTL(s string) (uint32, error) {
	bad := fmt.Errorf("TTL %q: want seconds from 0 to %d, or a form like 1h30m", s, uint32(zones.MaxTTL))
	total, digits := uint64(0), ""
	for i := 0; i < len(s); i++ {
		c := s[i]
		if '0' <= c && c <= '9' {
			digits += string(c)
			continue
		}
		unit, ok := map[byte]uint64{'s': 1, 'm': 60, 'h': 3600, 'd': 86400, 'w': 604800}[c|0x20]
		v, err := strconv.ParseUint(digits, 10, 32)
		if !ok || err != nil {
			return 0, bad
		}
		total += v * unit
		digits = ""
	}
	if digits != "" {
		v, err := strconv.ParseUint(digits, 10, 32)
		if err != nil {
			return 0, bad
		}
		total += v
	}
	if s == "" || total > zones.MaxTTL {
		return 0, bad
	}
	return uint32(total), nil
}
