package admin

import (
	"net/http"
	"time"

	"balefire/store"
	"balefire/zones"
)

// Transfers is what is known of, and done about, zones that come from other servers, and servers that are told of changes. What one node of a
// region does for all of them, only that one knows.
type Transfers interface {
	// Secondary returns how a secondary zone is kept; ok is false when it is none of this node's.
	Secondary(apex zones.Name) (status SecondaryStatus, ok bool)
	// Refresh has the primaries of a secondary zone asked now, and the zone fetched whole if that is wanted; false when it is no
	// secondary zone of this node.
	Refresh(apex zones.Name, whole bool) bool
	// Notified returns how the servers stand that are told of a zone's changes; none when another node tells them.
	Notified(apex zones.Name) []NotifiedServer
}

// SecondaryStatus is how a secondary zone is kept. Times are zero when they are not known, or never.
type SecondaryStatus struct {
	OnDuty  bool         // the node that answers keeps the zone for its region
	Running bool         // a primary is being asked
	Primary zones.Serial // the newest that a primary said it has; 0 before
	// Checked is when a primary last answered; Next, when one is asked next; Expires, when the zone expires unless one answers.
	Checked, Next, Expires time.Time
	Failures               int    // in a row
	Error                  string // why the last time failed; "" after it has worked
	FailedAt               time.Time
	Last                   *TransferMade // by the node that answers; nil before
}

// TransferMade is a transfer from a primary.
type TransferMade struct {
	At       time.Time // its end
	Duration time.Duration
	From     zones.Remote
	Form     string       // AXFR or IXFR, as which it came
	Serial   zones.Serial // that it brought
	Before   zones.Serial
	Records  int64
	Octets   int64 // of messages
	Messages int
	Staged   bool // it took more than one record of the log
}

// NotifiedServer is how a server stands that is told of a zone's changes.
type NotifiedServer struct {
	Remote   zones.Remote
	Serial   zones.Serial // of the last NOTIFY that it answered
	Told     time.Time    // when; zero before
	Pending  bool         // it is yet to be told of the present serial
	Attempts int          // without an answer
	Error    string       // what went wrong last
}

// zoneTransfers is a zone among other servers.
type zoneTransfers struct {
	Zone      string         `json:"zone"`
	Serial    uint32         `json:"serial"`
	Node      string         `json:"node,omitempty"`
	Secondary *secondaryInfo `json:"secondary,omitempty"`
	Notified  []notifiedInfo `json:"notified"`
}

type secondaryInfo struct {
	Standing      string        `json:"standing"`
	ConfirmedAt   *time.Time    `json:"confirmed_at,omitempty"`
	OnDuty        bool          `json:"on_duty"`
	Running       bool          `json:"running"`
	PrimarySerial uint32        `json:"primary_serial,omitempty"`
	CheckedAt     *time.Time    `json:"checked_at,omitempty"`
	NextAt        *time.Time    `json:"next_at,omitempty"`
	ExpiresAt     *time.Time    `json:"expires_at,omitempty"`
	Failures      int           `json:"failures"`
	Error         string        `json:"error,omitempty"`
	FailedAt      *time.Time    `json:"failed_at,omitempty"`
	Last          *transferInfo `json:"last_transfer,omitempty"`
}

type transferInfo struct {
	At       time.Time  `json:"at"`
	Seconds  float64    `json:"seconds"`
	From     remoteInfo `json:"from"`
	Form     string     `json:"form"`
	Serial   uint32     `json:"serial"`
	Before   uint32     `json:"before"`
	Records  int64      `json:"records"`
	Octets   int64      `json:"octets"`
	Messages int        `json:"messages"`
	Staged   bool       `json:"staged"`
}

type notifiedInfo struct {
	Server   remoteInfo `json:"server"`
	Serial   uint32     `json:"serial,omitempty"`
	ToldAt   *time.Time `json:"told_at,omitempty"`
	Pending  bool       `json:"pending"`
	Attempts int        `json:"attempts"`
	Error    string     `json:"error,omitempty"`
}

// known returns a time; nil for zero.
func known(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func (s *Server) getTransfers(w http.ResponseWriter, r *http.Request) error {
	apex, err := zoneOf(r)
	if err != nil {
		return err
	}
	if _, err := queryOf(r); err != nil {
		return err
	}
	info, err := s.infoOf(apex)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, s.transfersOf(info))
}

func (s *Server) postRefresh(w http.ResponseWriter, r *http.Request) error {
	return s.hasten(w, r, false)
}

func (s *Server) postRetransfer(w http.ResponseWriter, r *http.Request) error {
	return s.hasten(w, r, true)
}

// hasten has a secondary zone looked at now. It answers with how the zone was kept until then.
func (s *Server) hasten(w http.ResponseWriter, r *http.Request, whole bool) error {
	apex, err := zoneOf(r)
	if err != nil {
		return err
	}
	if _, err := queryOf(r); err != nil {
		return err
	}
	info, err := s.infoOf(apex)
	if err != nil {
		return err
	}
	shown := s.transfersOf(info)
	if !info.Settings.IsSecondary() || s.opts.Transfers == nil || !s.opts.Transfers.Refresh(apex, whole) {
		return newProblem(http.StatusConflict, "not-secondary", "the zone %s has no primaries: there is nowhere to fetch it from", apex)
	}
	return writeJSON(w, http.StatusAccepted, shown)
}

// infoOf returns what is known of a zone; the error is a problem when it is not hosted.
func (s *Server) infoOf(apex zones.Name) (store.ZoneInfo, error) {
	reading, err := s.read(apex)
	if err != nil {
		return store.ZoneInfo{}, err
	}
	defer reading.Close()
	return reading.Info, nil
}

func (s *Server) transfersOf(z store.ZoneInfo) zoneTransfers {
	shown := zoneTransfers{Zone: z.Apex.String(), Serial: uint32(z.Serial), Node: s.opts.Node, Notified: []notifiedInfo{}}
	var status SecondaryStatus
	var notified []NotifiedServer
	if t := s.opts.Transfers; t != nil {
		status, _ = t.Secondary(z.Apex)
		notified = t.Notified(z.Apex)
	}
	if standing, confirmed := standingOf(z); standing != "" {
		shown.Secondary = showSecondary(status)
		shown.Secondary.Standing, shown.Secondary.ConfirmedAt = standing, confirmed
	}
	for _, n := range notified {
		shown.Notified = append(shown.Notified, notifiedInfo{
			Server: showRemote(n.Remote), Serial: uint32(n.Serial), ToldAt: known(n.Told), Pending: n.Pending, Attempts: n.Attempts, Error: n.Error,
		})
	}
	return shown
}

func showSecondary(st SecondaryStatus) *secondaryInfo {
	info := &secondaryInfo{
		OnDuty: st.OnDuty, Running: st.Running, PrimarySerial: uint32(st.Primary),
		CheckedAt: known(st.Checked), NextAt: known(st.Next), ExpiresAt: known(st.Expires),
		Failures: st.Failures, Error: st.Error, FailedAt: known(st.FailedAt),
	}
	if last := st.Last; last != nil {
		info.Last = &transferInfo{
			At: last.At, Seconds: last.Duration.Seconds(), From: showRemote(last.From), Form: last.Form,
			Serial: uint32(last.Serial), Before: uint32(last.Before),
			Records: last.Records, Octets: last.Octets, Messages: last.Messages, Staged: last.Staged,
		}
	}
	return info
}
