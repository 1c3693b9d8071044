package wal

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"

	"vmcluster/lib/errkind"
	"vmcluster/lib/vfs/faultfs"
	"vmcluster/lib/vfs/memfs"
)

func wantFull(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, syscall.ENOSPC) || errkind.Of(err) != errkind.ReadOnly {
		t.Fatalf("error %v of kind %v; want ENOSPC of kind read-only", err, errkind.Of(err))
	}
}

// TestFullDisk fills the disk in every place at which a writer needs space, and frees it again: nothing is lost, not even what
// could not be acknowledged.
func TestFullDisk(t *testing.T) {
	for _, fault := range []faultfs.Fault{
		{Kinds: []faultfs.Kind{faultfs.Write}},
		{Kinds: []faultfs.Kind{faultfs.Write}, Short: true},
		{Kinds: []faultfs.Kind{faultfs.Create}},
		{Kinds: []faultfs.Kind{faultfs.Write, faultfs.Create, faultfs.Truncate, faultfs.OpenAppend}, Short: true},
	} {
		for at := range int64(4) {
			t.Run(fmt.Sprint(fault, at), func(t *testing.T) {
				fault.At, fault.Sticky, fault.Err = 1+at, true, syscall.ENOSPC
				fillAndFree(t, fault)
			})
		}
	}
}

func fillAndFree(t *testing.T, fault faultfs.Fault) {
	mem := memfs.New(memfs.Options{})
	faulty := faultfs.New(mem)
	l, _, _ := openLog(t, options(faulty))
	sent := []string{"kept"}
	must(t, l.WaitDurable(appendFrames(t, l, "kept")))
	faulty.SetFault(fault)
	acked := 1
	for i := range 6 {
		if _, err := l.Rotate(); err != nil {
			t.Fatal(err)
		}
		f := strings.Repeat(fmt.Sprint(i), 100*i+1)
		sent = append(sent, f, f+"2")
		err := l.WaitDurable(appendFrames(t, l, f, f+"2"))
		if err == nil {
			acked = len(sent)
			continue
		}
		wantFull(t, err)
		wantFull(t, l.Full())
		wantFull(t, l.Resume())
	}
	must(t, l.Err())
	for name, left := range map[string]*memfs.FS{"everything": mem, "a crash": mem.Crash(newRand(t))} {
		other, frames, report := openLog(t, options(left.Crash(newRand(t))))
		if len(frames) < acked || !slices.Equal(frames, sent[:len(frames)]) || len(report.Damaged) > 0 || report.Missing > 0 {
			t.Fatalf("%s: %d of %d frames, %d were acknowledged; report %+v", name, len(frames), len(sent), acked, report)
		}
		must(t, other.Close())
	}
	faulty.SetFault(faultfs.Fault{})
	must(t, l.Resume())
	must(t, l.Full())
	must(t, l.WaitDurable(appendFrames(t, l, "new")))
	must(t, l.Close())
	_, frames, report := openLog(t, options(mem.Crash(newRand(t))))
	wantFrames(t, frames, append(sent, "new")...)
	if len(report.Damaged) > 0 || report.TornBytes > 0 || report.Missing > 0 {
		t.Errorf("report %+v", report)
	}
}

// TestFsyncAfterFullDisk: when the cut behind the last durable frame cannot be made durable, the log has failed.
func TestFsyncAfterFullDisk(t *testing.T) {
	mem := memfs.New(memfs.Options{})
	faulty := faultfs.New(mem)
	l, _, _ := openLog(t, options(faulty))
	must(t, l.WaitDurable(appendFrames(t, l, "kept")))
	faulty.SetFault(faultfs.Fault{At: 1, Kinds: []faultfs.Kind{faultfs.Write}, Err: syscall.ENOSPC, Short: true})
	wantFull(t, l.WaitDurable(appendFrames(t, l, "lost")))
	faulty.SetFault(faultfs.Fault{At: 1, Kinds: []faultfs.Kind{faultfs.Sync}, Err: syscall.ENOSPC})
	wantFailed(t, l.Resume(), syscall.ENOSPC)
	faulty.SetFault(faultfs.Fault{})
	wantFailed(t, l.Close(), syscall.ENOSPC)
	_, frames, _ := openLog(t, options(mem))
	wantFrames(t, frames, "kept")
}

// TestCloseOfFullLog gives up what was not acknowledged.
func TestCloseOfFullLog(t *testing.T) {
	mem := memfs.New(memfs.Options{})
	faulty := faultfs.New(mem)
	l, _, _ := openLog(t, options(faulty))
	must(t, l.WaitDurable(appendFrames(t, l, "kept")))
	faulty.SetFault(faultfs.Fault{At: 1, Sticky: true, Kinds: []faultfs.Kind{faultfs.Write}, Err: syscall.ENOSPC})
	wantFull(t, l.WaitDurable(appendFrames(t, l, "lost")))
	next, err := l.Rotate()
	must(t, err)
	wantFull(t, l.RemoveBefore(next))
	wantFull(t, l.Close())
	_, frames, _ := openLog(t, options(mem))
	wantFrames(t, frames, "kept")
}
