package main

import (
	"balefire/admin"
	"balefire/dnsserver/notify"
	"balefire/dnsserver/secondary"
	"balefire/replication"
	"balefire/zones"
)

// transfersView is zones among other servers, as the API shows them.
type transfersView struct {
	node     *replication.Node
	kept     *secondary.Secondary
	notifier *notify.Notifier
}

var _ admin.Transfers = transfersView{}

func (v transfersView) Secondary(apex zones.Name) (admin.SecondaryStatus, bool) {
	st, ok := v.kept.Status(apex)
	if !ok {
		return admin.SecondaryStatus{}, false
	}
	shown := admin.SecondaryStatus{
		OnDuty: st.OnDuty, Running: st.Running, Primary: st.Primary, Checked: st.Checked, Next: st.Next, Expires: st.Expires,
		Failures: st.Failures, Error: st.Error, FailedAt: st.FailedAt,
	}
	if last := st.Last; !last.At.IsZero() {
		shown.Last = &admin.TransferMade{
			At: last.At, Duration: last.Duration, From: last.From, Form: last.Form.String(), Serial: last.Serial, Before: last.Before,
			Records: last.Records, Octets: last.Octets, Messages: last.Messages, Staged: last.Staged,
		}
	}
	return shown, true
}

func (v transfersView) Refresh(apex zones.Name, whole bool) bool {
	hasten := v.kept.Refresh
	if whole {
		hasten = v.kept.Retransfer
	}
	if hasten(apex) {
		return true
	}
	// A zone that was made a moment ago may not have been told of yet.
	z, err := v.node.Zone(apex)
	if err != nil || !z.Settings.IsSecondary() {
		return false
	}
	v.kept.Put(z)
	return hasten(apex)
}

func (v transfersView) Notified(apex zones.Name) []admin.NotifiedServer {
	all, err := v.notifier.Notified(apex)
	if err != nil {
		return nil // notify.ErrNotOnDuty
	}
	shown := make([]admin.NotifiedServer, 0, len(all))
	for _, s := range all {
		shown = append(shown, admin.NotifiedServer{
			Remote: s.Remote, Serial: s.Serial, Told: s.Told, Pending: s.Pending, Attempts: s.Attempts, Error: s.Fault,
		})
	}
	return shown
}
