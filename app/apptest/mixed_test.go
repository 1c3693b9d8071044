package apptest

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMixedVersions: some processes of a cluster are of another build, whose binaries are in the folder VMCLUSTER_OLD_BIN (see make mixed). They
// store and answer as a cluster of one version does, and are replaced by this build one by one, over the same data, under load. With VMCLUSTER_OLD_STORAGE=stays
// storage nodes are not replaced, for builds which cannot read each other's files.
func TestMixedVersions(t *testing.T) {
	old := os.Getenv("VMCLUSTER_OLD_BIN")
	if old == "" {
		t.Skip("VMCLUSTER_OLD_BIN does not name a folder with binaries of another build; see `make mixed`")
	}
	t.Parallel()
	for _, which := range []string{"vminsert", "vmselect", "vmstorage-1", "vmstorage-1 vmstorage-2", "vminsert vmselect", "vminsert vmselect vmstorage-1 vmstorage-2"} {
		t.Run("old "+which, func(t *testing.T) {
			t.Parallel()
			list := strings.Fields(which)
			testMixed(t, func(process string) string {
				name, _, _ := strings.Cut(process, "-")
				if slices.Contains(list, process) {
					return filepath.Join(old, name)
				}
				return name
			})
		})
	}
}

func testMixed(t *testing.T, binary func(process string) string) {
	f := &faulted{cluster: startCluster(t, clusterOptions{binary: binary})}
	f.l = &load{target: f.writeURL("0") + "/api/v1/write", pause: loadPause, repeats: true}
	f.l.run(t)
	f.l.waitAcked(t, 50)
	f.q = startQuestions(t, f.l, f.readURL("0"))
	f.q.waitAsked(t, 50)
	for _, n := range f.storage {
		if os.Getenv("VMCLUSTER_OLD_STORAGE") != "stays" && upgrade(n.process, "vmstorage") {
			n.restart()
			f.waitRecovered(n)
		}
	}
	if upgrade(f.insert, "vminsert") {
		f.insert.run()
		f.insert.httpAddr()
	}
	f.l.waitAcked(t, 50)
	f.q.waitAsked(t, 50)
	other := &cluster{t: t, selectAddr: freeAddr(t)} // of this version, beside one that may be old
	args := []string{"-httpListenAddr=" + other.selectAddr}
	for _, n := range f.storage {
		args = append(args, "-storageNode="+n.sel)
	}
	start(t, spec{name: "vmselect-2", binary: "vmselect", args: args}).httpAddr()
	other.waitWhole()
	f.l.stop()
	f.q.stop(t)
	if s := f.q.seen.between(time.Time{}, time.Now()); s.requests == s.failed+s.partial {
		t.Errorf("none of %d answers was whole", s.requests)
	}
	f.l.check(t, f.readURL("0"))
	f.flush()
	f.l.check(t, other.readURL("0"))
	checkCount(t, other.readURL("0"), f.l)
	if upgrade(f.sel, "vmselect") {
		f.sel.run()
		f.sel.httpAddr()
	}
	f.waitWhole()
	checkCount(t, f.readURL("0"), f.l)
}

// upgrade stops a process that is of another build, so that it can be started as one of this build, and reports whether it was.
func upgrade(p *process, binary string) bool {
	if p.spec.binary == binary {
		return false
	}
	p.stop(syscall.SIGTERM)
	p.spec.binary = binary
	return true
}
