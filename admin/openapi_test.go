package admin

import (
	"bytes"
	"encoding/json"
	"fmt"
	"mime"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// document is openapi.json, ready to hold requests and answers against.
type document struct {
	raw      map[string]any
	compiler *jsonschema.Compiler
	paths    map[string]*regexp.Regexp
}

const documentURL = "file:///openapi.json"

var theDocument = func() *document {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(openAPI))
	if err != nil {
		panic(err)
	}
	d := &document{raw: doc.(map[string]any), compiler: jsonschema.NewCompiler(), paths: map[string]*regexp.Regexp{}}
	d.compiler.AssertFormat()
	d.compiler.DefaultDraft(jsonschema.Draft2020)
	if err := d.compiler.AddResource(documentURL, doc); err != nil {
		panic(err)
	}
	part := regexp.MustCompile(`\\\{[a-z]+\\\}`)
	for p := range d.at("paths") {
		d.paths[p] = regexp.MustCompile("^" + part.ReplaceAllString(regexp.QuoteMeta(p), "[^/]+") + "$")
	}
	return d
}()

// at follows members, and references, from the root.
func (d *document) at(path ...string) map[string]any {
	v, _ := d.place(path...)
	return v
}

func (d *document) place(path ...string) (map[string]any, []string) {
	v, at := d.raw, []string{}
	for _, p := range path {
		v, _ = v[p].(map[string]any)
		at = append(at, p)
		if ref, ok := v["$ref"].(string); ok {
			v, at = d.place(strings.Split(strings.TrimPrefix(ref, "#/"), "/")...)
		}
	}
	return v, at
}

// validate holds a value against the schema at a place.
func (d *document) validate(value any, path ...string) error {
	_, at := d.place(path...)
	var pointer strings.Builder
	for _, p := range at {
		pointer.WriteString("/" + url.PathEscape(strings.NewReplacer("~", "~0", "/", "~1").Replace(p)))
	}
	schema, err := d.compiler.Compile(documentURL + "#" + pointer.String())
	if err != nil {
		return err
	}
	return schema.Validate(value)
}

// check holds one request and its answer against the document. Bodies of requests that were refused may be anything.
func (d *document) check(method, path, body string, a reply) error {
	path, query, _ := strings.Cut(path, "?")
	var route string
	for p, is := range d.paths {
		if is.MatchString(path) && (route == "" || strings.Count(p, "{") < strings.Count(route, "{")) {
			route = p
		}
	}
	operation := d.at("paths", route, strings.ToLower(method))
	problem := []string{"components", "responses", "Problem", "content"}
	if route == "" || operation == nil {
		if a.status != 404 && a.status != 405 && a.status != 401 {
			return fmt.Errorf("no such operation, and yet %d", a.status)
		}
		return d.checkBody(a, problem...)
	}
	if a.status < 400 {
		if err := d.checkQuery(query, route, operation); err != nil {
			return err
		}
		if err := d.checkRequest(body, route, method); err != nil {
			return err
		}
	}
	answers := []string{"paths", route, strings.ToLower(method), "responses"}
	if d.at(append(slices.Clone(answers), strconv.Itoa(a.status))...) != nil {
		return d.checkBody(a, append(answers, strconv.Itoa(a.status), "content")...)
	}
	if a.status < 400 {
		return fmt.Errorf("status %d is not described", a.status)
	}
	return d.checkBody(a, append(answers, "default", "content")...)
}

func (d *document) checkRequest(body, route, method string) error {
	content := []string{"paths", route, strings.ToLower(method), "requestBody", "content"}
	kinds := d.at(content...)
	switch {
	case kinds == nil && body != "":
		return fmt.Errorf("a body was taken, and none is described")
	case kinds["application/json"] == nil:
		return nil
	}
	v, err := jsonschema.UnmarshalJSON(strings.NewReader(body))
	if err != nil {
		return err
	}
	if err := d.validate(v, append(content, "application/json", "schema")...); err != nil {
		return fmt.Errorf("the request was taken: %w", err)
	}
	return nil
}

func (d *document) checkBody(a reply, content ...string) error {
	if a.status == 204 && len(a.body) == 0 {
		return nil
	}
	kind, _, err := mime.ParseMediaType(a.header.Get("Content-Type"))
	if err != nil {
		return fmt.Errorf("Content-Type %q: %w", a.header.Get("Content-Type"), err)
	}
	if d.at(content...)[kind] == nil {
		return fmt.Errorf("Content-Type %s is not described", kind)
	}
	if !strings.HasSuffix(kind, "json") {
		return nil
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(a.body))
	if err != nil {
		return err
	}
	return d.validate(v, append(content, kind, "schema")...)
}

func (d *document) checkQuery(query, route string, operation map[string]any) error {
	values, err := url.ParseQuery(query)
	if err != nil {
		return err
	}
	known := d.parameters(route, operation)
	for name := range values {
		if !slices.Contains(known, "query "+name) {
			return fmt.Errorf("?%s was taken, and is not described", name)
		}
	}
	return nil
}

// parameters lists "in name" of all parameters of an operation.
func (d *document) parameters(route string, operation map[string]any) []string {
	var all []any
	if shared, ok := d.at("paths", route)["parameters"].([]any); ok {
		all = append(all, shared...)
	}
	if own, ok := operation["parameters"].([]any); ok {
		all = append(all, own...)
	}
	var names []string
	for _, p := range all {
		p := p.(map[string]any)
		if ref, ok := p["$ref"].(string); ok {
			p = d.at(strings.Split(strings.TrimPrefix(ref, "#/"), "/")...)
		}
		names = append(names, fmt.Sprint(p["in"], " ", p["name"]))
	}
	return names
}

func TestEveryRouteIsDescribedAndTheOtherWayRound(t *testing.T) {
	served := map[string]route{}
	for r := range (&Server{}).routes() {
		served[r.pattern] = r
	}
	described := map[string]bool{}
	ids := map[string]bool{}
	for path, item := range theDocument.at("paths") {
		for method, op := range item.(map[string]any) {
			if method == "parameters" {
				continue
			}
			operation := op.(map[string]any)
			pattern := strings.ToUpper(method) + " " + path
			described[pattern] = true
			r, ok := served[pattern]
			if !ok {
				t.Errorf("%s is described, and not served", pattern)
			}
			if none, ok := operation["security"].([]any); (ok && len(none) == 0) != r.open {
				t.Errorf("%s: described with other security than it has (open: %v)", pattern, r.open)
			}
			id := fmt.Sprint(operation["operationId"])
			if ids[id] || id == "" {
				t.Errorf("%s: operationId %q", pattern, id)
			}
			ids[id] = true
			for _, part := range regexp.MustCompile(`\{([a-z]+)\}`).FindAllStringSubmatch(path, -1) {
				if !slices.Contains(theDocument.parameters(path, operation), "path "+part[1]) {
					t.Errorf("%s: {%s} is not described", pattern, part[1])
				}
			}
		}
	}
	for pattern := range served {
		if !described[pattern] {
			t.Errorf("%s is served, and not described", pattern)
		}
	}
}

// TestDocumentIsWhole: references lead somewhere, components are used, and schemas compile.
func TestDocumentIsWhole(t *testing.T) {
	text := string(openAPI)
	for _, ref := range regexp.MustCompile(`"\$ref": "#/([^"]+)"`).FindAllStringSubmatch(text, -1) {
		if theDocument.at(strings.Split(ref[1], "/")...) == nil {
			t.Errorf("%s leads nowhere", ref[1])
		}
	}
	for kind, items := range theDocument.at("components") {
		for name := range items.(map[string]any) {
			if kind != "securitySchemes" && !strings.Contains(text, `"#/components/`+kind+"/"+name+`"`) {
				t.Errorf("%s/%s is not used", kind, name)
			}
			if kind == "schemas" {
				if _, err := theDocument.compiler.Compile(documentURL + "#/components/schemas/" + name); err != nil {
					t.Error(err)
				}
			}
		}
	}
	var again any
	if err := json.Unmarshal(openAPI, &again); err != nil {
		t.Error(err)
	}
}
