package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"balefire/replication/staging"
	"balefire/store"
	"balefire/zones"
	"balefire/zones/change"
	"balefire/zones/zonefile"
)

// An import takes a zone file of any size, in memory that does not grow with it: read and sort, validate, compare with what is
// hosted, and publish (staging.go). Nothing is published before all of the file was found good.

// imported is what became of a zone file.
type imported struct {
	changed
	Result   string   `json:"result"` // created, replaced or unchanged
	DryRun   bool     `json:"dry_run,omitempty"`
	RRsets   uint64   `json:"rrsets"`
	Records  uint64   `json:"records"`
	Removed  *uint64  `json:"removed,omitempty"` // RRsets, by owner and type
	Added    *uint64  `json:"added,omitempty"`
	Changed  *uint64  `json:"changed,omitempty"`
	Warnings []string `json:"warnings,omitempty"`
}

// importOptions are an import's query.
type importOptions struct {
	force, dryRun bool
	policy        zones.SerialPolicy
	setPolicy     bool
	defaultTTL    uint32
}

func importOptionsOf(query url.Values) (o importOptions, err error) {
	if o.force, err = flagOf(query, "force"); err != nil {
		return o, err
	}
	if o.dryRun, err = flagOf(query, "dry_run"); err != nil {
		return o, err
	}
	if o.setPolicy = query.Has("serial_policy"); o.setPolicy {
		if o.policy, err = zones.ParseSerialPolicy(query.Get("serial_policy")); err != nil {
			return o, badParameter("?serial_policy", "%v", err)
		}
	}
	if query.Has("default_ttl") {
		f := &form{}
		n, ok := f.number(value{at: "?default_ttl", what: "number", literal: query.Get("default_ttl")}, true, zones.MaxTTL)
		if !ok {
			return o, badParameter("?default_ttl", "%s", f.mistakes[0].Detail)
		}
		o.defaultTTL = uint32(n)
	}
	return o, nil
}

func (s *Server) putFile(w http.ResponseWriter, r *http.Request) error {
	apex, err := zoneOf(r)
	if err != nil {
		return err
	}
	d, query, err := s.demandsOf(r, apex, "force", "dry_run", "serial_policy", "default_ttl")
	if err != nil {
		return err
	}
	opts, err := importOptionsOf(query)
	if err != nil {
		return err
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "text/dns" && kind != "text/plain" {
		return newProblem(http.StatusUnsupportedMediaType, "unsupported-media", "Content-Type must be text/dns")
	}
	if r.Header.Get("Content-Encoding") != "" {
		return newProblem(http.StatusUnsupportedMediaType, "unsupported-media", "the body must not be compressed")
	}
	leave, err := s.imports.claim(apex)
	if err != nil {
		return err
	}
	defer leave()
	release, err := s.imports.slot(r.Context(), s)
	if err != nil {
		return err
	}
	defer release()
	in := newPacedBody(w, r, &s.opts.Limits)
	job := &importJob{s: s, apex: apex, demands: d, importOptions: opts, file: fileName(apex)}
	got, err := job.run(r.Context(), in)
	in.done(&s.opts.Limits)
	if err != nil {
		s.metrics.imports.WithLabelValues("failed").Inc()
		return err
	}
	s.metrics.imported(got)
	status := http.StatusOK
	switch {
	case got.Status == statusPending:
		status = http.StatusAccepted
		w.Header().Set("Location", "/v1/changes/"+got.ID)
	case got.Result == "created" && !got.DryRun:
		status = http.StatusCreated
	}
	if got.Serial != nil && !got.DryRun {
		w.Header().Set("ETag", tag(zones.Serial(*got.Serial)))
	}
	return writeJSON(w, status, got)
}

// fileName is what a zone's file is called in messages.
func fileName(apex zones.Name) string {
	if apex == zones.Root {
		return "root.zone"
	}
	return strings.TrimSuffix(apex.String(), ".") + ".zone"
}

// importSlots let few requests import at once, and one of each zone: a second would only end the first one's staging.
type importSlots struct {
	free chan struct{}

	mu    *sync.Mutex
	zones map[zones.Name]bool
}

func newImportSlots(n int) importSlots {
	return importSlots{free: make(chan struct{}, n), mu: &sync.Mutex{}, zones: map[zones.Name]bool{}}
}

// claim keeps a zone for one import, until leave; it does not wait for another one.
func (l importSlots) claim(apex zones.Name) (leave func(), err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.zones[apex] {
		p := newProblem(http.StatusConflict, "busy", "another import of %s is under way", apex)
		p.retryAfter = 5
		return nil, p
	}
	l.zones[apex] = true
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.zones, apex)
	}, nil
}

// slot waits for one of the few requests that import at once.
func (l importSlots) slot(ctx context.Context, s *Server) (release func(), err error) {
	select {
	case l.free <- struct{}{}: // a free one is not lost to a time limit that has passed by now
	default:
		ctx, cancel := context.WithTimeout(ctx, s.opts.Limits.ImportQueue)
		defer cancel()
		select {
		case l.free <- struct{}{}:
		case <-ctx.Done():
			p := newProblem(http.StatusServiceUnavailable, "busy", "%d imports are under way, and no more are taken", cap(l.free))
			p.retryAfter = 10
			return nil, p
		}
	}
	s.metrics.importing.Inc()
	return func() {
		s.metrics.importing.Dec()
		<-l.free
	}, nil
}

// importJob is one import.
type importJob struct {
	s    *Server
	apex zones.Name
	demands
	importOptions
	file string

	records *staging.Sorter
	content staging.Content // what the file makes
	warned  warnings
}

// fileBody is a zone file that is read once.
type fileBody interface {
	io.Reader
	// failure is why reading failed, when it is not the file's fault; nil while it has not.
	failure() error
}

// run does the import in its steps.
func (j *importJob) run(ctx context.Context, in fileBody) (got imported, err error) {
	l := &j.s.opts.Limits
	j.records = staging.NewSorter(j.apex, j.s.opts.TempDir, l.SortMemory)
	defer j.records.Close()
	if err := j.read(in); err != nil {
		return got, err
	}
	if err := j.validate(ctx); err != nil {
		return got, err
	}
	got = imported{
		Result: "created", RRsets: j.content.Zone.RRsets, Records: j.content.Zone.Records, DryRun: j.dryRun, Warnings: j.warned.list(),
		changed: changed{Status: statusApplied, Zone: j.apex.String()},
	}
	if done, err := j.compare(ctx, &got); done || err != nil {
		return got, err
	}
	if j.dryRun {
		got.Status = "dry-run"
		return got, nil
	}
	got.changed, err = j.publish(ctx)
	return got, err
}

// read reads the file to its end.
func (j *importJob) read(in fileBody) error {
	l := &j.s.opts.Limits
	reader := zonefile.NewReader(in, zonefile.Options{File: j.file, Origin: j.apex, DefaultTTL: j.defaultTTL})
	for {
		rec, err := reader.Next()
		if err := in.failure(); err != nil {
			return err
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return j.mistake(err)
		}
		if !rec.Owner.IsAtOrBelow(j.apex) {
			p := j.mistakeAt(rec.Line, rec.Column, "%s is not in the zone %s", rec.Owner, j.apex)
			p.Rule, p.Owner, p.RRType = string(zones.RuleOutOfZone), rec.Owner.String(), rec.Type.String()
			return p
		}
		if j.records.Count() == l.ImportRecords {
			return newProblem(http.StatusRequestEntityTooLarge, "too-large", "a zone file may have at most %d records", l.ImportRecords)
		}
		if err := j.records.Add(rec); err != nil {
			return err
		}
	}
	if j.records.Count() == 0 {
		return j.mistakeAt(1, 1, "there is no record in it")
	}
	return nil
}

// validate asks of all RRsets, in order, what a valid zone is.
func (j *importJob) validate(ctx context.Context) error {
	l := &j.s.opts.Limits
	var owner zones.Name
	var types map[zones.Type]bool
	look := func(set staging.Set) error {
		if set.Owner != owner {
			owner, types = set.Owner, nil
		}
		if types == nil {
			types = make(map[zones.Type]bool, 4)
		}
		if types[set.Type] = true; len(types) > l.TypesPerName {
			p := j.mistakeAt(set.Line, set.Column, "%s has more than %d types", owner, l.TypesPerName)
			p.Owner = owner.String()
			return p
		}
		if set.Mixed {
			j.warned.add("%s:%d:%d: TTLs of %s %s differ: all take the lowest, %d", j.file, set.Line, set.Column, owner, set.Type, set.TTL)
		}
		return nil
	}
	var err error
	j.content, err = staging.Validate(ctx, change.NewSequence(j.apex), j.records.Sets(l.RecordsPerRRset), look)
	var rej *zones.Rejection
	if errors.As(err, &rej) {
		return j.rejected(rej)
	}
	return j.mistake(err)
}

// mistake turns errors of reading the file into problems with a place in it.
func (j *importJob) mistake(err error) error {
	var at *zonefile.Error
	var set *staging.SetError
	switch {
	case errors.As(err, &at):
		return j.mistakeAt(at.Line, at.Column, "%s", at.Msg)
	case errors.Is(err, staging.ErrTooManyRecords) && errors.As(err, &set):
		p := j.mistakeAt(set.Line, set.Column, "%s %s has more than %d records", set.Owner, set.Key, j.s.opts.Limits.RecordsPerRRset)
		p.Owner, p.RRType = set.Owner.String(), set.Key.Type.String()
		return p
	case errors.As(err, &set):
		return j.mistakeAt(set.Line, set.Column, "%s", set.Err)
	}
	return err
}

func (j *importJob) mistakeAt(line, column int, format string, args ...any) *problem {
	msg := fmt.Sprintf(format, args...)
	p := newProblem(http.StatusUnprocessableEntity, "zone-file", "%s:%d:%d: %s", j.file, line, column, msg)
	p.File, p.Line, p.Column = j.file, line, column
	p.Errors = []mistake{{fmt.Sprintf("%s:%d:%d", j.file, line, column), msg}}
	return p
}

// rejected finds the place of what a rejection is about: the first record of its owner and type, or of its owner.
func (j *importJob) rejected(rej *zones.Rejection) error {
	line, column, exact := 1, 1, false
	for set, err := range j.records.Sets(1 << 16) {
		if err != nil {
			break
		}
		if set.Owner != rej.Owner {
			continue
		}
		same := set.Type == rej.Type
		if line == 1 && column == 1 && !exact || same && !exact || same == exact && set.Line < line {
			line, column, exact = set.Line, set.Column, same
		}
	}
	p := j.mistakeAt(line, column, "%s", rej.Error())
	p.Rule, p.Owner = string(rej.Rule), rej.Owner.String()
	if rej.Type != 0 {
		p.RRType = rej.Type.String()
	}
	return p
}

// compare holds the file against what is hosted. done says that there is nothing to write.
func (j *importJob) compare(ctx context.Context, got *imported) (done bool, err error) {
	present, err := j.s.reading(j.apex)
	if isNoZone(err) {
		serial := uint32(j.content.Zone.Serial)
		got.Serial = &serial
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer present.Close()
	got.Result = "replaced"
	if j.keep > 0 && j.sentBefore() {
		return false, nil // what it came to then is its result now
	}
	// As applying decides it, so that what it would reject is refused before it is sent.
	switch s := present.Info.Settings; {
	case s.IsSecondary():
		return false, rejected(&zones.Rejection{
			Rule: zones.RuleSecondary, Owner: j.apex, Op: -1, Detail: "the zone's content comes from its primaries, and from nobody else",
		}, nil)
	case s.Frozen:
		return false, rejected(&zones.Rejection{
			Rule: zones.RuleFrozen, Owner: j.apex, Op: -1, Detail: "the zone is frozen: it changes when it is thawed",
		}, nil)
	}
	settings, came, old := present.Info.Settings, j.content.Zone.Serial, present.Info.Serial
	if j.setPolicy {
		settings.SerialPolicy = j.policy
	}
	keeps := j.content.Zone.Signed || settings.SerialPolicy == zones.SerialKeep
	if !came.IsAfter(old) {
		same := j.content.DigestAt(old) == present.Info.Digest
		if same && (came == old || !keeps) {
			return true, j.unchanged(ctx, got, settings, present.Info)
		}
		if keeps {
			return false, rejected(&zones.Rejection{
				Rule: zones.RuleSerial, Owner: j.apex, Type: zones.TypeSOA, Op: -1,
				Detail: fmt.Sprintf("the zone keeps its serials, and %d is not after %d (RFC 1982)", came, old),
			}, nil)
		}
	}
	serial := uint32(came)
	if came.IsAfter(old) {
		got.Serial = &serial
	}
	if present.Info.RRsets <= shrinkFrom && !j.dryRun {
		return false, nil
	}
	diff, err := differ(present.All(ctx), j.plainSets())
	if err != nil {
		return false, err
	}
	got.Removed, got.Added, got.Changed = &diff.removed, &diff.added, &diff.changed
	if !j.force && shrinks(present.Info.RRsets, diff.removed) {
		return false, shrinking(j.apex, present.Info.RRsets, diff.removed)
	}
	return false, nil
}

// unchanged ends an import whose content is hosted already. Only a new serial policy is worth a record.
func (j *importJob) unchanged(ctx context.Context, got *imported, settings zones.ZoneSettings, present store.ZoneInfo) error {
	got.Result = "unchanged"
	if !settings.Equal(present.Settings) && !j.dryRun {
		cs := j.s.changeSet(j.apex, j.demands)
		cs.Ops = []zones.Op{zones.OpSetSettings{Parts: zones.PartSerialPolicy, Settings: zones.ZoneSettings{SerialPolicy: settings.SerialPolicy}}}
		var err error
		got.changed, err = j.s.submit(ctx, submission{cs: cs, wait: j.wait})
		return err
	}
	for _, p := range j.match {
		is, ok := p.(zones.IfSerial)
		_, absent := p.(zones.IfZoneAbsent)
		if absent || ok && is.Serial != present.Serial {
			return rejected(&zones.Rejection{
				Rule: zones.RulePrecondition, Owner: j.apex, Op: -1, Detail: fmt.Sprintf("the zone is hosted, with serial %d", present.Serial),
			}, nil)
		}
	}
	serial := uint32(present.Serial)
	got.Serial = &serial
	return nil
}

// sentBefore reports whether the partition remembers a change set with this request's key.
func (j *importJob) sentBefore() bool {
	number, ok := j.s.opts.Publisher.PartitionOf(j.apex)
	if !ok {
		return false
	}
	p := j.s.opts.Reader.Partition(number)
	if p == nil {
		return false
	}
	_, err := p.LookupID(j.id)
	return err == nil
}

// plainSets yields the file's RRsets without their places.
func (j *importJob) plainSets() iter.Seq2[zones.RRset, error] {
	return staging.RRsets(j.records.Sets(j.s.opts.Limits.RecordsPerRRset))
}

// guard is the shrink guard for RRsets in the order of zones.CompareRRsets.
func (s *Server) guard(ctx context.Context, apex zones.Name, sets iter.Seq[zones.RRset]) error {
	present, err := s.reading(apex)
	if isNoZone(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer present.Close()
	if present.Info.RRsets <= shrinkFrom {
		return nil
	}
	diff, err := differ(present.All(ctx), func(yield func(zones.RRset, error) bool) {
		for set := range sets {
			if !yield(set, nil) {
				return
			}
		}
	})
	if err == nil && shrinks(present.Info.RRsets, diff.removed) {
		err = shrinking(apex, present.Info.RRsets, diff.removed)
	}
	return err
}

// difference counts RRsets, by owner and type.
type difference struct{ removed, added, changed uint64 }

// differ compares two zones, both in the order of zones.CompareRRsets. Serials are not compared.
func differ(before, after iter.Seq2[zones.RRset, error]) (d difference, err error) {
	next, stop := iter.Pull2(after)
	defer stop()
	b, err, more := next()
	for a, errA := range before {
		if errA != nil {
			return d, errA
		}
		for more && err == nil && zones.CompareRRsets(b, a) < 0 {
			d.added++
			b, err, more = next()
		}
		if err != nil {
			return d, err
		}
		if !more || zones.CompareRRsets(a, b) != 0 {
			d.removed++
			continue
		}
		if !a.Equal(b) && !a.Equal(b.WithSOASerial(a.SOASerial())) {
			d.changed++
		}
		b, err, more = next()
	}
	for ; more && err == nil; b, err, more = next() {
		d.added++
	}
	return d, err
}

// warnings keeps the first few, and counts the others.
type warnings struct {
	kept []string
	more int
}

func (w *warnings) add(format string, args ...any) {
	if len(w.kept) == maxMistakes {
		w.more++
		return
	}
	w.kept = append(w.kept, fmt.Sprintf(format, args...))
}

func (w *warnings) list() []string {
	if w.more > 0 {
		return append(w.kept[:len(w.kept):len(w.kept)], fmt.Sprintf("and %d more", w.more))
	}
	return w.kept
}
