package flagcompat

import (
	"flag"
	"slices"
	"strings"
	"testing"
)

func TestTableIsWellFormed(t *testing.T) {
	seen := map[string]bool{}
	list := rows()
	for _, r := range list {
		if seen[r.name] {
			t.Errorf("%s stands twice in the table", r.name)
		}
		seen[r.name] = true
		if !slices.Contains([]string{"b", "v"}, r.kind) || !slices.Contains([]string{"none", "refuse"}, r.class) || r.reason == "" {
			t.Errorf("bad row for %s: %+v", r.name, r)
		}
		for _, b := range r.binaries {
			if !strings.Contains("siqvbrm", b) || len(b) != 1 {
				t.Errorf("%s names an unknown binary %q", r.name, b)
			}
		}
	}
	if !slices.IsSortedFunc(list, func(a, b row) int { return strings.Compare(a.name, b.name) }) {
		t.Error("the table is not sorted by flag")
	}
}

func TestRegister(t *testing.T) {
	fs := flag.NewFlagSet("test", flag.ContinueOnError)
	real := fs.Bool("denyQueryTracing", false, "a flag the binary has")
	Register(fs, Insert)
	if err := fs.Parse([]string{"-sortLabels", "-bigMergeConcurrency=3"}); err == nil {
		t.Error("vminsert accepts a flag of vmstorage")
	}
	if err := fs.Parse([]string{"-graphiteListenAddr.useProxyProtocol=false", "-denyQueryTracing", "-internStringMaxLen=10", "-sortLabels"}); err != nil || !*real {
		t.Errorf("got %v, %v", *real, err)
	}
	if err := fs.Parse([]string{"-graphiteListenAddr.useProxyProtocol"}); err == nil || !strings.Contains(err.Error(), "the PROXY protocol is not read") {
		t.Errorf("got %v", err)
	}
}
