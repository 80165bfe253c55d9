package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"balefire/replication"
	"balefire/replication/mutationlog"
	"balefire/store"
	"balefire/zones"
)

// problem is what the API answers to what it does not do (RFC 9457). It is an error, so that handlers can return it.
type problem struct {
	Type      string    `json:"type"`
	Title     string    `json:"title"`
	Status    int       `json:"status"`
	Detail    string    `json:"detail,omitempty"`
	RequestID string    `json:"request_id,omitempty"`
	Errors    []mistake `json:"errors,omitempty"`

	// Of a change: its position when it is in the log, its own ID when that is not known.
	ID       string `json:"id,omitempty"`
	ChangeID string `json:"change_id,omitempty"`
	// Of a rejection: the rule that was broken, and where.
	Rule   string `json:"rule,omitempty"`
	Owner  string `json:"owner,omitempty"`
	RRType string `json:"rrtype,omitempty"`
	// Of a mistake in a zone file.
	File   string `json:"file,omitempty"`
	Line   int    `json:"line,omitempty"`
	Column int    `json:"column,omitempty"`

	retryAfter int  // seconds; 0: not said
	declined   bool // nothing was done, and another node may do it
	allow      string
	cause      error // for the log
}

// mistake names one field and what is wrong with it. The field is a JSON pointer into the body; "?name" for a
// query parameter, "{name}" for a part of the path, and a header's name for a header.
type mistake struct {
	Field  string `json:"field"`
	Detail string `json:"detail"`
}

func (p *problem) Error() string { return p.Title + ": " + p.Detail }

// kinds of problems. Types are part of the API.
var problemTitles = map[string]string{
	"bad-request":         "The request can't be understood",
	"unauthorized":        "A valid token is needed",
	"not-found":           "There is no such thing",
	"method-not-allowed":  "The method is not for this resource",
	"unsupported-media":   "The body is of a type that is not taken here",
	"too-large":           "The request is larger than is taken",
	"not-valid":           "The request is not valid",
	"zone-file":           "The zone file has a mistake",
	"rejected":            "The change was rejected, and changed nothing",
	"precondition-failed": "A precondition does not hold",
	"key-reused":          "The Idempotency-Key belongs to another request",
	"shrinking":           "The zone would lose too much at once",
	"busy":                "Too much is under way",
	"log-unavailable":     "Changes can't be taken now",
	"outcome-unknown":     "The change may have been made, or may be made later, or not",
	"unavailable":         "What is asked for can't be read now",
	"not-secondary":       "The zone does not come from other servers",
	"awaiting":            "The zone has no content yet",
	"no-catalog":          "The zone is no catalog",
	"no-producer":         "The catalog is not produced here",
	"frozen":              "The namespace is being moved, or was, and takes no changes",
	"not-held":            "Another node was asked that does not hold what is asked for",
	"not-known":           "This server can't tell",
	"internal":            "Something went wrong in the server",
}

func newProblem(status int, kind, format string, args ...any) *problem {
	return &problem{
		Type: "urn:balefire:problem:" + kind, Title: problemTitles[kind], Status: status, Detail: fmt.Sprintf(format, args...),
	}
}

// notValid is a problem with one or more fields.
func notValid(mistakes ...mistake) *problem {
	p := newProblem(http.StatusUnprocessableEntity, "not-valid", "%s: %s", mistakes[0].Field, mistakes[0].Detail)
	if len(mistakes) > 1 {
		p.Detail = fmt.Sprintf("%d mistakes", len(mistakes))
	}
	p.Errors = mistakes
	return p
}

// badParameter is a problem with a part of the path, the query or a header.
func badParameter(field, format string, args ...any) *problem {
	p := newProblem(http.StatusBadRequest, "bad-request", "%s: "+format, append([]any{field}, args...)...)
	p.Errors = []mistake{{field, fmt.Sprintf(format, args...)}}
	return p
}

func noSuchZone(apex zones.Name) *problem {
	p := newProblem(http.StatusNotFound, "not-found", "the zone %s is not hosted", apex)
	p.Rule, p.Owner = string(zones.RuleNoZone), apex.String()
	return p
}

// problemOf turns any error into a problem. What has no kind of its own is the server's fault.
func problemOf(err error) *problem {
	var p *problem
	var rej *zones.Rejection
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &p):
		return p
	case errors.As(err, &rej):
		return rejected(rej, nil)
	case errors.As(err, &tooLarge):
		return newProblem(http.StatusRequestEntityTooLarge, "too-large", "the body may have at most %d octets", tooLarge.Limit)
	case errors.Is(err, store.ErrNoZone):
		return newProblem(http.StatusNotFound, "not-found", "the zone is not hosted")
	case errors.Is(err, store.ErrNotOpen), errors.Is(err, store.ErrClosed), errors.Is(err, replication.ErrNotOpen), errors.Is(err, replication.ErrClosed):
		p = newProblem(http.StatusServiceUnavailable, "unavailable", "%v", err)
		p.retryAfter = 5
	case errors.Is(err, store.ErrCorrupt):
		p = newProblem(http.StatusServiceUnavailable, "unavailable", "stored data contradict themselves: whether it exists is not known")
		p.cause = err
	case errors.Is(err, context.Canceled):
		p = newProblem(http.StatusServiceUnavailable, "unavailable", "the request was given up")
	default:
		p = newProblem(http.StatusInternalServerError, "internal", "the server's log says more under this request_id")
		p.cause = err
	}
	return p
}

// ruleStatus gives the status of each rule that is not 422: what is wrong is not the change by itself.
var ruleStatus = map[zones.Rule]int{
	zones.RuleNoZone:       http.StatusNotFound,
	zones.RuleZoneExists:   http.StatusConflict,
	zones.RuleSigned:       http.StatusConflict,
	zones.RuleSerial:       http.StatusConflict,
	zones.RuleStage:        http.StatusConflict,
	zones.RuleFrozen:       http.StatusConflict,
	zones.RuleSecondary:    http.StatusConflict,
	zones.RuleNotSecondary: http.StatusConflict,
	zones.RulePrecondition: http.StatusPreconditionFailed,
	zones.RuleTooLarge:     http.StatusRequestEntityTooLarge,
	// These say that the server and the log do not fit together.
	zones.RuleUndecodable: http.StatusInternalServerError,
	zones.RuleFormatLevel: http.StatusInternalServerError,
	zones.RuleWrongKey:    http.StatusInternalServerError,
}

// rejected is the problem of a rejected change set. When it was the door that rejected it, there is no position.
func rejected(rej *zones.Rejection, position *store.Position) *problem {
	status, ok := ruleStatus[rej.Rule]
	if !ok {
		status = http.StatusUnprocessableEntity
	}
	kind := "rejected"
	switch rej.Rule {
	case zones.RulePrecondition:
		kind = "precondition-failed"
	case zones.RuleDuplicate:
		kind = "key-reused"
	case zones.RuleTooLarge:
		kind = "too-large"
	case zones.RuleNoZone:
		kind = "not-found"
	}
	p := newProblem(status, kind, "%s", rej.Error())
	p.Rule = string(rej.Rule)
	p.Owner = rej.Owner.String()
	if rej.Type != 0 {
		p.RRType = rej.Type.String()
	}
	if position != nil {
		p.ID = position.String()
	}
	return p
}

// unpublished is the problem of a change set that Publish did not take.
func unpublished(err error, id zones.ChangeID) *problem {
	var rej *zones.Rejection
	var p *problem
	switch {
	case errors.As(err, &rej):
		return rejected(rej, nil)
	case errors.Is(err, mutationlog.ErrTooLarge):
		return newProblem(http.StatusRequestEntityTooLarge, "too-large", "the change is larger than the log takes")
	case errors.Is(err, mutationlog.ErrFrozen): // ErrRefused, too
		return newProblem(http.StatusConflict, "frozen", "nothing was changed: %v", err)
	case errors.Is(err, mutationlog.ErrRefused):
		p = newProblem(http.StatusServiceUnavailable, "log-unavailable", "nothing was changed: %v", err)
		p.retryAfter = 5
	default:
		// Whatever is not certain is unknown.
		p = newProblem(http.StatusGatewayTimeout, "outcome-unknown",
			"the log did not acknowledge the change: it may be there all the same, or come later. Ask for /v1/changes/%s, or repeat the request with the same Idempotency-Key", id)
		p.ChangeID = id.String()
		p.retryAfter = 5
	}
	p.cause = err
	return p
}

func writeProblem(w http.ResponseWriter, p *problem) {
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("Cache-Control", "no-store")
	if p.retryAfter > 0 {
		h.Set("Retry-After", fmt.Sprint(p.retryAfter))
	}
	if p.declined {
		h.Set(declinedHeader, "true")
	}
	if p.allow != "" {
		h.Set("Allow", p.allow)
	}
	if p.Status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", `Bearer realm="balefire"`)
	}
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // the client is gone: nobody to tell
}
