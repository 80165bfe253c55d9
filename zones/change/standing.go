package change

import (
	"fmt"
	"time"

	"balefire/zones"
)

// Who may change what: the content of a zone without primaries changes by clients, that of a secondary zone by what its primaries
// send, that of a frozen one not at all.

// now is the partition's time, as exactly as it is kept.
func (a *application) now() time.Time { return a.logTime.UTC().Truncate(timeUnit) }

// mayChange refuses to change the content of a zone that has these settings; nil when it may be.
func (a *application) mayChange(settings zones.ZoneSettings) *zones.Rejection {
	switch {
	case a.source == zones.SourceClient && settings.IsSecondary():
		return a.secondary()
	case a.source != zones.SourceClient && !settings.IsSecondary():
		return &zones.Rejection{Rule: zones.RuleNotSecondary, Owner: a.apex, Op: -1, Detail: "the zone has no primaries that it could come from"}
	case settings.Frozen:
		return a.frozen()
	}
	return nil
}

// mayReplace refuses to put a whole zone in the place of what there is, if anything; settings are those that it would have.
func (a *application) mayReplace(settings zones.ZoneSettings) *zones.Rejection {
	if a.hosted {
		if rej := a.mayChange(a.old.Settings); rej != nil {
			return rej
		}
	} else if a.source != zones.SourceClient {
		return a.noZone()
	}
	if a.source == zones.SourceClient && settings.IsSecondary() {
		return a.secondary()
	}
	return nil
}

func (a *application) secondary() *zones.Rejection {
	return &zones.Rejection{Rule: zones.RuleSecondary, Owner: a.apex, Op: -1, Detail: "the zone's content comes from its primaries, and from nobody else"}
}

func (a *application) frozen() *zones.Rejection {
	return &zones.Rejection{Rule: zones.RuleFrozen, Owner: a.apex, Op: -1, Detail: "the zone is frozen: it changes when it is thawed"}
}

// nothingYet is the rejection of what a zone without content can't do.
func (a *application) nothingYet(detail string) *zones.Rejection {
	return &zones.Rejection{Rule: zones.RuleApexSOA, Owner: a.apex, Type: zones.TypeSOA, Op: -1, Detail: detail}
}

// standing is how a hosted zone stands after a change set that gives it these settings, and content or none.
func (a *application) standing(settings zones.ZoneSettings) zones.Standing {
	switch {
	case !settings.IsSecondary():
		return zones.Standing{}
	case a.source != zones.SourceClient, !a.old.Settings.IsSecondary():
		return zones.Standing{Confirmed: a.now()}
	}
	return a.old.Standing
}

func (a *application) setStanding(op zones.OpSetStanding) (Result, *zones.Rejection, error) {
	switch {
	case !a.hosted:
		return Result{}, a.noZone(), nil
	case !a.old.Settings.IsSecondary():
		return Result{}, a.mayChange(a.old.Settings), nil
	case a.old.Standing.Awaiting:
		return Result{}, a.nothingYet("the zone has no content that could be confirmed, or expire"), nil
	case !op.Since.IsZero() && !op.Since.Truncate(timeUnit).Equal(a.old.Standing.Confirmed):
		return Result{}, failed(a.apex, 0, "the zone was last confirmed at %s, not at %s",
			a.old.Standing.Confirmed.Format(time.RFC3339Nano), op.Since.UTC().Format(time.RFC3339Nano)), nil
	}
	zone := a.old
	if op.Expired {
		zone.Standing.Expired = true
	} else {
		zone.Standing = zones.Standing{Confirmed: a.now()}
	}
	return a.keepContent(zone), nil, nil
}

// checkSource refuses operations that do not come from there: a primary sends content, and nothing else.
func checkSource(op zones.Op, source zones.Source) *zones.Rejection {
	may := source == zones.SourceClient
	switch op := op.(type) {
	case zones.OpPutRRset, zones.OpAddRecords, zones.OpDeleteRecords, zones.OpDeleteRRset, zones.OpDeleteName:
		may = source != zones.SourceRetransfer
	case zones.OpReplaceZone:
		may = may || !op.SetSettings
	case zones.OpStageCommit:
		may = may || !op.SetSettings
	case zones.OpStageChunk, zones.OpStageAbort:
		may = true
	case zones.OpSetStanding:
		may = !may
	}
	if !may {
		return &zones.Rejection{Rule: zones.RuleMalformed, Op: -1, Detail: fmt.Sprintf("operation %T from a %s", op, source)}
	}
	return nil
}
