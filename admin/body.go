package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"balefire/zones"
	"balefire/zones/zonefile"
)

// JSON bodies are read into a tree, and from that field by field, so that every mistake is told at once and
// each with its place (RFC 6901), and nothing that was sent is passed over in silence.

const (
	maxDepth    = 12 // of JSON; what the API takes has 5
	maxMistakes = 20 // told at once
)

// value is a JSON value and its place in the body.
type value struct {
	at      string // JSON pointer; "" is the whole body
	what    string // object, array, text, number, true or false, null
	literal string // of a text or number
	items   []value
	names   []string // of an object's members; items has their values
}

// readJSON reads the whole body as one JSON value.
func readJSON(w http.ResponseWriter, r *http.Request, limit int64) (value, error) {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return value{}, newProblem(http.StatusUnsupportedMediaType, "unsupported-media", "Content-Type must be application/json")
	}
	if r.Header.Get("Content-Encoding") != "" {
		return value{}, newProblem(http.StatusUnsupportedMediaType, "unsupported-media", "the body must not be compressed")
	}
	body := http.MaxBytesReader(w, r.Body, limit)
	dec := json.NewDecoder(body)
	dec.UseNumber()
	v, err := readValue(dec, "", 0)
	if err == nil {
		if _, end := dec.Token(); end != io.EOF {
			err = fmt.Errorf("there is more after the JSON value, at octet %d", dec.InputOffset())
		}
	}
	if err == nil {
		patient(w)
		return v, nil
	}
	var p *problem
	var tooLarge *http.MaxBytesError
	if errors.As(err, &p) || errors.As(err, &tooLarge) {
		return v, err
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return v, newProblem(http.StatusRequestTimeout, "bad-request", "the body came too slowly")
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = fmt.Errorf("it ends in the middle, at octet %d", dec.InputOffset())
	}
	return value{}, newProblem(http.StatusBadRequest, "bad-request", "the body is not JSON: %v", err)
}

// pointerEscape escapes a name in a JSON pointer (RFC 6901 §3).
var pointerEscape = strings.NewReplacer("~", "~0", "/", "~1")

func readValue(dec *json.Decoder, at string, depth int) (v value, err error) {
	v.at = at
	if depth > maxDepth {
		return v, newProblem(http.StatusBadRequest, "bad-request", "%s: JSON nested more than %d deep", at, maxDepth)
	}
	token, err := dec.Token()
	if err != nil {
		return v, err
	}
	switch token := token.(type) {
	case nil:
		v.what = "null"
	case bool:
		v.what = strconv.FormatBool(token)
	case json.Number:
		v.what, v.literal = "number", token.String()
	case string:
		v.what, v.literal = "text", token
	case json.Delim:
		v.what = "array"
		if token == '{' {
			v.what = "object"
		}
		seen := map[string]bool{}
		for dec.More() {
			place := at + "/" + strconv.Itoa(len(v.items))
			if v.what == "object" {
				name, err := dec.Token()
				if err != nil {
					return v, err
				}
				key, _ := name.(string)
				place = at + "/" + pointerEscape.Replace(key)
				if seen[key] {
					return v, notValid(mistake{place, "is there twice"})
				}
				seen[key] = true
				v.names = append(v.names, key)
			}
			item, err := readValue(dec, place, depth+1)
			if err != nil {
				return v, err
			}
			v.items = append(v.items, item)
		}
		if _, err := dec.Token(); err != nil { // the closing one
			return v, err
		}
	}
	return v, nil
}

// form collects what is wrong with a body.
type form struct{ mistakes []mistake }

func (f *form) add(at, format string, args ...any) {
	if len(f.mistakes) < maxMistakes {
		if at == "" {
			at = "/"
		}
		f.mistakes = append(f.mistakes, mistake{at, fmt.Sprintf(format, args...)})
	}
}

// err returns the problem, when there is one.
func (f *form) err() error {
	if len(f.mistakes) == 0 {
		return nil
	}
	return notValid(f.mistakes...)
}

// object reads the members of a JSON object. Members that are not asked for before end are mistakes.
type object struct {
	*form
	value
	known []string
}

func (f *form) object(v value) *object {
	if v.what != "object" {
		f.add(v.at, "want an object, not %s", v.kind())
		v = value{at: v.at}
	}
	return &object{form: f, value: v}
}

func (v value) kind() string {
	switch v.what {
	case "true", "false", "null", "text":
		return v.what
	}
	if strings.HasPrefix(v.what, "a") || strings.HasPrefix(v.what, "o") {
		return "an " + v.what
	}
	return "a " + v.what
}

// end refuses the members that nobody asked for.
func (o *object) end() {
	for i, name := range o.names {
		if !slices.Contains(o.known, name) {
			o.add(o.items[i].at, "unknown field; known here: %s", strings.Join(o.known, ", "))
		}
	}
}

// optional returns a member; ok is false when it isn't there.
func (o *object) optional(name string) (v value, ok bool) {
	o.known = append(o.known, name)
	if i := slices.Index(o.names, name); i >= 0 {
		return o.items[i], true
	}
	return value{at: o.at + "/" + name}, false
}

// required returns a member; when it isn't there, that is a mistake.
func (o *object) required(name string) (v value, ok bool) {
	v, ok = o.optional(name)
	if !ok {
		o.add(v.at, "is missing")
	}
	return v, ok
}

func (f *form) text(v value, ok bool) (string, bool) {
	if ok && v.what != "text" {
		f.add(v.at, "want text, not %s", v.kind())
		ok = false
	}
	if ok && !utf8.ValidString(v.literal) {
		f.add(v.at, "is not UTF-8")
		ok = false
	}
	return v.literal, ok
}

func (f *form) number(v value, ok bool, maximum uint64) (uint64, bool) {
	if !ok {
		return 0, false
	}
	if v.what != "number" {
		f.add(v.at, "want a number, not %s", v.kind())
		return 0, false
	}
	n, err := strconv.ParseUint(v.literal, 10, 64)
	if err != nil || n > maximum {
		f.add(v.at, "%s: want a whole number from 0 to %d", v.literal, maximum)
		return 0, false
	}
	return n, true
}

func (f *form) array(v value, ok bool) []value {
	if ok && v.what != "array" {
		f.add(v.at, "want an array, not %s", v.kind())
		return nil
	}
	return v.items
}

// reason reads the field that every change may have.
func (o *object) reason(maximum int) string {
	v, ok := o.optional("reason")
	text, ok := o.text(v, ok)
	if ok && len(text) > maximum {
		o.add(v.at, "%d octets; at most %d", len(text), maximum)
	}
	return text
}

// name reads a domain name; relative ones are completed by the origin.
func (f *form) name(v value, ok bool, origin zones.Name) (zones.Name, bool) {
	text, ok := f.text(v, ok)
	if !ok {
		return "", false
	}
	n, err := zones.ParseNameIn(text, origin)
	if err != nil {
		f.add(v.at, "%v", err)
		return "", false
	}
	return n, true
}

// owner reads an owner name in the zone.
func (o *object) owner(apex zones.Name) (zones.Name, bool) {
	v, ok := o.required("owner")
	n, ok := o.name(v, ok, apex)
	if ok && !n.IsAtOrBelow(apex) {
		o.add(v.at, "%s is not in the zone %s: leave its final dot out to make it relative", n, apex)
		return "", false
	}
	return n, ok
}

func (o *object) rtype() (zones.Type, bool) {
	v, ok := o.required("type")
	text, ok := o.text(v, ok)
	if !ok {
		return 0, false
	}
	t, err := zones.ParseType(text)
	if err == nil && t.IsMeta() {
		err = fmt.Errorf("%s exists only in messages", t)
	}
	if err != nil {
		o.add(v.at, "%v", err)
		return 0, false
	}
	return t, true
}

func (o *object) ttl() (uint32, bool) {
	v, ok := o.required("ttl")
	n, ok := o.number(v, ok, zones.MaxTTL)
	return uint32(n), ok
}

// records reads RDATA in presentation form, at least one and at most limit. Names in them that are relative are
// completed by the apex.
func (o *object) records(t zones.Type, apex zones.Name, limit int) ([][]byte, bool) {
	v, ok := o.required("records")
	before := len(o.mistakes)
	items := o.array(v, ok)
	if len(o.mistakes) == before && ok {
		switch {
		case len(items) == 0:
			o.add(v.at, "an RRset needs at least one record")
		case len(items) > limit:
			o.add(v.at, "%d records; at most %d are allowed", len(items), limit)
			return nil, false
		}
	}
	var rdatas [][]byte
	for _, item := range items {
		text, ok := o.text(item, true)
		if !ok || t == 0 {
			continue
		}
		rdata, err := zonefile.ParseRData(t, text, apex)
		if err != nil {
			o.add(item.at, "%s: %v", t, err)
			continue
		}
		rdatas = append(rdatas, rdata)
	}
	return rdatas, ok && len(o.mistakes) == before
}

// rrset reads owner, type, TTL (unless it is not asked for) and records, and leaves the object open.
func (o *object) rrset(apex zones.Name, limit int, withTTL bool) (zones.RRset, bool) {
	owner, okOwner := o.owner(apex)
	t, okType := o.rtype()
	return o.content(owner, t, apex, limit, withTTL, okOwner && okType)
}

// content reads the TTL and the records of an RRset whose owner and type are known.
func (o *object) content(owner zones.Name, t zones.Type, apex zones.Name, limit int, withTTL, ok bool) (zones.RRset, bool) {
	var ttl uint32
	if withTTL {
		var okTTL bool
		ttl, okTTL = o.ttl()
		ok = ok && okTTL
	}
	rdatas, okRecords := o.records(t, apex, limit)
	if !ok || !okRecords {
		return zones.RRset{}, false
	}
	s, err := zones.NewRRset(owner, t, ttl, rdatas...)
	if err != nil {
		o.add(o.at+"/records", "%v", err)
		return zones.RRset{}, false
	}
	return s, true
}

// rrsets reads an array of RRsets of one zone, none of which may be there twice.
func (f *form) rrsets(v value, ok bool, apex zones.Name, limit int) []zones.RRset {
	type place struct {
		owner zones.Name
		key   zones.Key
	}
	first := map[place]string{}
	var sets []zones.RRset
	for _, item := range f.array(v, ok) {
		o := f.object(item)
		s, ok := o.rrset(apex, limit, true)
		o.end()
		if !ok {
			continue
		}
		at := place{s.Owner, s.Key}
		if earlier, twice := first[at]; twice {
			f.add(item.at, "%s %s is also at %s", s.Owner, s.Type, earlier)
			continue
		}
		first[at] = item.at
		sets = append(sets, s)
	}
	return sets
}

func (o *object) policy(name string) (zones.SerialPolicy, bool) {
	v, ok := o.optional(name)
	return o.policyOf(v, ok)
}

func (f *form) policyOf(v value, ok bool) (zones.SerialPolicy, bool) {
	text, ok := f.text(v, ok)
	if !ok {
		return 0, false
	}
	p, err := zones.ParseSerialPolicy(text)
	if err != nil {
		f.add(v.at, "%v", err)
		return 0, false
	}
	return p, true
}
