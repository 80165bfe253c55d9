package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"balefire/admin"
	"balefire/zones"
)

// client speaks to the native API of a server. Several goroutines may use it at once.
type client struct {
	base  *url.URL
	token string
	http  *http.Client
	// wait is how long the server may take to apply a change before it answers with its position only;
	// the client then asks again.
	wait time.Duration
	// scope is where a change must be applied: node, region or everywhere; empty: on the node.
	scope string
}

// connection is the flags that say where the server is, and who asks.
type connection struct {
	server, tokenFile, dataDir string
	timeout                    time.Duration
	scope                      string        // see client
	patience                   time.Duration // for an answer to begin; 0: 10 minutes
	output
}

// defaultServer is where `balefire serve` listens when nothing else is said.
const defaultServer = "http://127.0.0.1:8053"

func (c *connection) register(cmd *cobra.Command) {
	flags := cmd.PersistentFlags()
	flags.StringVar(&c.server, "server", "", "URL of the server's admin address (BALEFIRE_SERVER; default "+defaultServer+")")
	flags.StringVar(&c.tokenFile, "token-file", "", "file with the token (BALEFIRE_TOKEN_FILE; BALEFIRE_TOKEN is the token itself)")
	flags.StringVar(&c.dataDir, "data-dir", defaultConfig().DataDir, "the server's data directory, for its admin.token")
	flags.DurationVar(&c.timeout, "timeout", time.Minute, "how long to wait until a change is applied")
	c.output.register(flags)
}

// registerWait is for commands that change something.
func (c *connection) registerWait(cmd *cobra.Command) {
	cmd.Flags().VarP(choice(&c.scope, "node", "region", "everywhere"), "wait", "", "until where it is applied, within --timeout: node, region or everywhere (default node)")
}

// dial reads the token; it sends nothing yet.
func (c *connection) dial() (*client, error) {
	token, err := c.token()
	if err != nil {
		return nil, err
	}
	return c.dialWith(token)
}

// dialFor is dial for a command whose argument is a zone.
func (c *connection) dialFor(zone string) (zones.Name, *client, error) {
	apex, err := apexArg(zone)
	if err != nil {
		return "", nil, err
	}
	cl, err := c.dial()
	return apex, cl, err
}

func (c *connection) dialWith(token string) (*client, error) {
	server := firstOf(c.server, os.Getenv("BALEFIRE_SERVER"), defaultServer)
	base, err := url.Parse(server)
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" {
		return nil, usagef("--server %q: want a URL such as %s", server, defaultServer)
	}
	transport := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		TLSHandshakeTimeout:   10 * time.Second,
		MaxIdleConnsPerHost:   importWorkers,
		ResponseHeaderTimeout: cmp.Or(c.patience, 10*time.Minute), // after the last octet of a large zone was sent
	}
	return &client{
		base: base, token: token, wait: c.timeout, scope: c.scope,
		http: &http.Client{
			Transport: transport,
			// A redirect would send the token, and a write, to a place that nobody named.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// token looks where the contract says, in order. A server may need none for what is asked, so finding
// none is not a mistake here.
func (c *connection) token() (string, error) {
	if c.tokenFile == "" {
		if t := os.Getenv("BALEFIRE_TOKEN"); t != "" {
			return t, nil
		}
	}
	if file := firstOf(c.tokenFile, os.Getenv("BALEFIRE_TOKEN_FILE")); file != "" {
		b, err := os.ReadFile(file)
		if err != nil {
			return "", fmt.Errorf("token: %w", err)
		}
		return strings.TrimSpace(string(b)), nil
	}
	b, err := os.ReadFile(filepath.Join(c.dataDir, admin.TokenFile))
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("token: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

func firstOf(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}

// request is one call of the API.
type request struct {
	method string
	path   []string // segments, not escaped yet
	query  url.Values
	// body is sent as JSON, or as it is when it is an io.Reader, with contentType.
	body        any
	contentType string
	accept      string
	header      http.Header
}

// problem is the server's answer to what it does not do (RFC 9457).
type problem struct {
	Type   string         `json:"type"`
	Title  string         `json:"title"`
	Status int            `json:"status"`
	Detail string         `json:"detail,omitempty"`
	Errors []problemError `json:"errors,omitempty"`
	ID     string         `json:"id,omitempty"` // of a rejected change set that is in the log
	// Of a rejection: what it is about.
	Owner  string `json:"owner,omitempty"`
	RRType string `json:"rrtype,omitempty"`
	// Of a mistake in a zone file: its line.
	Line int `json:"line,omitempty"`
}

// problemError names one field and what is wrong with it.
type problemError struct {
	Field  string `json:"field"`
	Detail string `json:"detail"`
}

func (p *problem) Error() string {
	s := firstOf(p.Detail, p.Title, http.StatusText(p.Status), "the server refused")
	if p.ID != "" {
		s += " (" + p.ID + ")"
	}
	if len(p.Errors) > 1 || len(p.Errors) == 1 && !strings.Contains(s, p.Errors[0].Detail) {
		for _, e := range p.Errors {
			s += "\n  " + e.Field + ": " + e.Detail
		}
	}
	if p.Status == http.StatusUnauthorized {
		s += "\nThe token is BALEFIRE_TOKEN, or in --token-file, or in admin.token of the server's --data-dir."
	}
	return s
}

// maxAnswer bounds JSON answers, in octets; exports are streamed and have no bound.
const maxAnswer = 64 << 20

// send makes the call, and returns the answer with its body when it is a success. The caller closes it.
func (c *client) send(ctx context.Context, r request) (*http.Response, error) {
	u := c.base.JoinPath(escapeAll(r.path)...)
	u.RawQuery = r.query.Encode()
	var body io.Reader
	contentType := r.contentType
	switch b := r.body.(type) {
	case nil:
	case io.Reader:
		body = b
	default:
		encoded, err := json.Marshal(b)
		if err != nil {
			return nil, fmt.Errorf("encode the request: %w", err)
		}
		body, contentType = bytes.NewReader(encoded), "application/json"
	}
	req, err := http.NewRequestWithContext(ctx, r.method, u.String(), body)
	if err != nil {
		return nil, err
	}
	for k, v := range r.header {
		req.Header[k] = v
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	req.Header.Set("Accept", firstOf(r.accept, "application/json, application/problem+json"))
	req.Header.Set("User-Agent", "balefire/"+programVersion())
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err // without the URL, which is in what follows
		}
		return nil, fmt.Errorf("%s: %w", c.base, err)
	}
	if resp.StatusCode/100 == 2 {
		return resp, nil
	}
	defer resp.Body.Close()
	p := &problem{Status: resp.StatusCode}
	content, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("%s: %s: %w", c.base, resp.Status, err)
	}
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if !strings.HasSuffix(kind, "json") || json.Unmarshal(content, p) != nil {
		p.Detail = resp.Status + " from " + u.String()
	}
	p.Status = resp.StatusCode
	return nil, p
}

func escapeAll(segments []string) []string {
	escaped := make([]string, len(segments))
	for i, s := range segments {
		escaped[i] = url.PathEscape(s)
		if s == "." {
			escaped[i] = "@" // the root; a dot is "here" to whatever is on the way
		}
	}
	return escaped
}

// call makes the call and decodes its JSON answer into out, unless that is nil.
func (c *client) call(ctx context.Context, r request, out any) error {
	resp, err := c.send(ctx, r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(out); err != nil {
		return fmt.Errorf("%s: read the answer: %w", c.base, err)
	}
	return nil
}

// changed is what a write came to.
type changed struct {
	ID        string  `json:"id,omitempty"`        // its position
	ChangeID  string  `json:"change_id,omitempty"` // what it was known by before it had one
	Status    string  `json:"status"`              // applied, rejected or pending
	Zone      string  `json:"zone"`
	Serial    uint32  `json:"serial,omitempty"`
	Duplicate bool    `json:"duplicate,omitempty"` // the result of an earlier call with the same key
	Error     *reason `json:"error,omitempty"`     // when rejected
	Missing   []reach `json:"missing,omitempty"`   // groups that were waited for, and did not have it in time
}

// reason is why a change set was rejected.
type reason struct {
	Rule   string `json:"rule"`
	Owner  string `json:"owner,omitempty"`
	Type   string `json:"type,omitempty"`
	Detail string `json:"detail,omitempty"`
}

// maxServerWait is how long a server waits at most before it answers.
const maxServerWait = time.Minute

// waiting adds to a write's query what is to be waited for.
func (c *client) waiting(query url.Values) url.Values {
	if c.scope == "" {
		return query
	}
	if query == nil {
		query = url.Values{}
	}
	query.Set("wait", c.scope)
	query.Set("timeout", min(c.wait, maxServerWait).String())
	return query
}

// change makes a call that changes something, and waits until it is applied.
func (c *client) change(ctx context.Context, r request) (changed, error) {
	r.query = c.waiting(r.query)
	var got changed
	if err := c.call(ctx, r, &got); err != nil {
		return got, err
	}
	return c.settle(ctx, got)
}

// settle asks again while a change is pending.
func (c *client) settle(ctx context.Context, got changed) (changed, error) {
	deadline := time.Now().Add(c.wait)
	missing := got.Missing
	for got.Status == "pending" {
		left := time.Until(deadline)
		if left <= 0 {
			return got, fmt.Errorf("%s was accepted, and is not applied yet: see `balefire change show %s`", got.ID, got.ID)
		}
		var err error
		if got, err = c.changeAt(ctx, got.ID, min(left, 10*time.Second)); err != nil {
			return got, err
		}
	}
	if got.Status == "rejected" {
		return got, rejected(got)
	}
	if len(missing) > 0 {
		s := got.ID + " is applied here, but not known to be in:"
		for _, m := range missing {
			s += "\n  " + m.String()
		}
		return got, fmt.Errorf("%s\nSee `balefire change show %s`", s, got.ID)
	}
	return got, nil
}

// changeAt asks what became of a change.
func (c *client) changeAt(ctx context.Context, id string, wait time.Duration) (changed, error) {
	var got changed
	err := c.call(ctx, request{
		method: http.MethodGet, path: []string{"v1", "changes", id},
		query: url.Values{"wait": {wait.Round(time.Millisecond).String()}},
	}, &got)
	return got, err
}

func rejected(got changed) error {
	s := "rejected"
	if got.Error != nil {
		s += ": " + strings.Join(nonEmpty(got.Error.Rule, got.Error.Owner, got.Error.Type, got.Error.Detail), " ")
	}
	return fmt.Errorf("%s (%s)", s, got.ID)
}

func nonEmpty(texts ...string) []string {
	var out []string
	for _, t := range texts {
		if t != "" {
			out = append(out, t)
		}
	}
	return out
}

// ifSerial is the If-Match header for --if-serial; 0 sets none.
func ifSerial(serial uint32) http.Header {
	if serial == 0 {
		return nil
	}
	return http.Header{"If-Match": {`"` + strconv.FormatUint(uint64(serial), 10) + `"`}}
}

// apexArg reads a zone's name from the command line.
func apexArg(text string) (zones.Name, error) {
	if text == "@" {
		return "", usagef(`zone "@": want the zone's name; the root zone is "."`)
	}
	apex, err := zones.ParseName(text)
	if err != nil {
		return "", usagef("zone %v", err)
	}
	return apex, nil
}
