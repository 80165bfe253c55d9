package main

import (
	"strings"
	"testing"
)

func TestBackupNow(t *testing.T) {
	a := newAPI(t, map[string]string{
		"POST /v1/backups": `200 {"backups":[
			{"partition":0,"node":"n1","offset":4711,"octets":1000,"made":"2026-11-01T12:00:00Z"},
			{"partition":1,"node":"n2","offset":-1,"skipped":"there is nothing in it"}]}`,
		"POST /v1/backups?partitions=1%2C5": `200 {"backups":[
			{"partition":1,"node":"n2","offset":7,"octets":10,"made":"2026-11-01T12:00:00Z"},
			{"partition":5,"error":"no node of the region holds it"}]}`,
	})
	code, out, errOut := runCLI(t, "backup", "now")
	want := "PARTITION  NODE  OFFSET  OCTETS  RESULT\n" +
		"0          n1    4711    1000    made\n" +
		"1          n2    -1      0       not needed: there is nothing in it\n"
	if code != exitOK || out != want {
		t.Errorf("exit %d: %s\n%s", code, errOut, out)
	}
	code, out, errOut = runCLI(t, "backup", "now", "--partition", "1", "--partition", "5")
	if code != exitFailed || !strings.Contains(out, "failed: no node of the region holds it") || errOut != "balefire: 1 of 2 partitions were not backed up\n" {
		t.Errorf("exit %d: %s\n%s", code, errOut, out)
	}
	if code, _, errOut := runCLI(t, "backup", "now", "--partition", "-1"); code != exitUsage {
		t.Errorf("exit %d: %s", code, errOut)
	}
	if n := len(a.lines()); n != 2 {
		t.Errorf("%d calls: %v", n, a.lines())
	}
}

func TestPoint(t *testing.T) {
	for text, want := range map[string]string{
		"":                     "newest",
		"3@4711":               "position",
		"2026-11-01T12:00:00Z": "time",
		"yesterday":            "error",
		"3@":                   "error",
		"2026-11-01":           "error",
	} {
		at, err := parsePoint(text)
		got := "time"
		switch {
		case err != nil:
			got = "error"
		case at.isNewest():
			got = "newest"
		case at.position != nil:
			got = "position"
		}
		if got != want {
			t.Errorf("%q is a %s (%v), want %s", text, got, err, want)
		}
	}
}
