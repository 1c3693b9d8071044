package wal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"vmcluster/lib/errkind"
	"vmcluster/lib/logger"
	"vmcluster/lib/metrics"
	"vmcluster/lib/vfs"
	"vmcluster/lib/vfs/faultfs"
	"vmcluster/lib/vfs/memfs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testDir = "/data/wal/0"

func options(fsys vfs.FS) Options {
	return Options{FS: fsys, Dir: testDir, Logger: logger.Discard(), Metrics: metrics.NewSet()}
}

// openLog opens and replays a log and returns copies of its frames.
func openLog(t testing.TB, o Options) (*Log, []string, ReplayReport) {
	t.Helper()
	l, err := Open(o)
	must(t, err)
	var frames []string
	report, err := l.Replay(func(frame []byte) error {
		frames = append(frames, string(frame))
		return nil
	})
	must(t, err)
	return l, frames, report
}

func appendFrames(t testing.TB, l *Log, frames ...string) (last Position) {
	t.Helper()
	for _, f := range frames {
		p, err := l.Append([]byte(f))
		must(t, err)
		if p <= last {
			t.Fatalf("position %d follows %d", p, last)
		}
		last = p
	}
	return last
}

func wantFrames(t testing.TB, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Fatalf("replayed %q; want %q", got, want)
	}
}

func TestAppendAndReplay(t *testing.T) {
	mem := memfs.New(memfs.Options{})
	l, frames, report := openLog(t, options(mem))
	if len(frames) > 0 || report.Segments > 0 {
		t.Fatalf("an empty log has %q, %+v", frames, report)
	}
	must(t, l.WaitDurable(appendFrames(t, l, "a", "bb", "ccc")))
	size := l.SizeBytes()
	if want := int64(headerBytes + 3*frameHeadBytes + 6); size != want {
		t.Errorf("size %d; want %d", size, want)
	}
	must(t, l.Close())
	must(t, l.Close())
	l, frames, report = openLog(t, options(mem))
	wantFrames(t, frames, "a", "bb", "ccc")
	if report.Segments != 1 || report.Frames != 3 || report.Bytes != 6 || report.TornBytes != 0 || len(report.Damaged) != 0 {
		t.Errorf("report %+v", report)
	}
	if l.SizeBytes() != size {
		t.Errorf("size %d after opening; want %d", l.SizeBytes(), size)
	}
	appendFrames(t, l, "d")
	must(t, l.Close()) // makes it durable
	_, frames, _ = openLog(t, options(mem))
	wantFrames(t, frames, "a", "bb", "ccc", "d")
}

func TestClosedLog(t *testing.T) {
	l, _, _ := openLog(t, options(memfs.New(memfs.Options{})))
	p := appendFrames(t, l, "a")
	must(t, l.Close())
	must(t, l.WaitDurable(p))
	_, err := l.Append([]byte("x"))
	_, err2 := l.Rotate()
	for _, err := range []error{err, err2, l.RemoveBefore(1)} {
		if errkind.Of(err) != errkind.Draining {
			t.Errorf("use after Close: %v (%v)", err, errkind.Of(err))
		}
	}
	if l.Err() != nil {
		t.Errorf("a closed log says that it has failed: %v", l.Err())
	}
}

func TestFrameSizeIsBounded(t *testing.T) {
	mem := memfs.New(memfs.Options{})
	l, _, _ := openLog(t, options(mem))
	if _, err := l.Append(make([]byte, MaxFrameBytes+1)); errkind.Of(err) != errkind.TooLarge {
		t.Errorf("error %v", err)
	}
	large := strings.Repeat("x", 3*maxBuffered)
	must(t, l.WaitDurable(appendFrames(t, l, "a", large, "b")))
	must(t, l.Close())
	_, frames, _ := openLog(t, options(mem))
	wantFrames(t, frames, "a", large, "b")
}

func segmentNames(t *testing.T, fsys vfs.FS) []string {
	t.Helper()
	list, err := fsys.ReadDir(testDir)
	must(t, err)
	var names []string
	for _, e := range list {
		if e.Name != stateName {
			names = append(names, strings.TrimLeft(e.Name, "0"))
		}
	}
	return names
}

func TestRotateAndRemove(t *testing.T) {
	mem := memfs.New(memfs.Options{})
	fault := faultfs.New(mem)
	l, _, _ := openLog(t, options(fault))
	first, err := l.Rotate() // nothing to leave behind
	must(t, err)
	appendFrames(t, l, "a", "b")
	ops := fault.Ops()
	second, err := l.Rotate()
	must(t, err)
	again, err := l.Rotate()
	must(t, err)
	if fault.Ops() != ops {
		t.Error("Rotate has touched the disk")
	}
	if first != 1 || second != 2 || again != 2 {
		t.Errorf("rotated to %d, %d, %d; want 1, 2, 2", first, second, again)
	}
	must(t, l.WaitDurable(appendFrames(t, l, "c")))
	third, err := l.Rotate()
	must(t, err)
	must(t, l.WaitDurable(appendFrames(t, l, "d")))
	wantFrames(t, segmentNames(t, mem), "1", "2", "3", "4")
	must(t, l.RemoveBefore(second))
	wantFrames(t, segmentNames(t, mem), "2", "3", "4")
	must(t, l.RemoveBefore(third))
	must(t, l.RemoveBefore(third))
	wantFrames(t, segmentNames(t, mem), "3", "4")
	if want := int64(headerBytes + frameHeadBytes + 1); l.SizeBytes() != want {
		t.Errorf("size %d; want %d", l.SizeBytes(), want)
	}
	fourth, err := l.Rotate()
	must(t, err)
	must(t, l.RemoveBefore(fourth)) // the segment being written goes as well
	if names := segmentNames(t, mem); !slices.Equal(names, []string{"4"}) || l.SizeBytes() != 0 {
		t.Errorf("left over: %q, %d bytes", names, l.SizeBytes())
	}
	appendFrames(t, l, "e")
	must(t, l.Close())
	_, frames, _ := openLog(t, options(mem))
	wantFrames(t, frames, "e")
}

func TestSegmentsAreBegunBySize(t *testing.T) {
	mem := memfs.New(memfs.Options{})
	o := options(mem)
	o.SegmentBytes = 100
	l, _, _ := openLog(t, o)
	var want []string
	for i := range 30 {
		want = append(want, fmt.Sprintf("frame %03d", i))
	}
	must(t, l.WaitDurable(appendFrames(t, l, want...)))
	huge := strings.Repeat("y", 1000)
	want = append(want, huge, "end")
	must(t, l.WaitDurable(appendFrames(t, l, huge, "end")))
	must(t, l.Close())
	if got := len(segmentNames(t, mem)); got < 8 || got > 15 {
		t.Errorf("%d segments", got)
	}
	_, frames, report := openLog(t, o)
	wantFrames(t, frames, want...)
	if report.Missing != 0 {
		t.Errorf("report %+v", report)
	}
}

// TestGroupCommit holds the first fsync until others wait, which then must
// share the second.
func TestGroupCommit(t *testing.T) {
	const writers = 50
	fault := faultfs.New(memfs.New(memfs.Options{}))
	o := options(fault)
	l, _, _ := openLog(t, o)
	must(t, l.WaitDurable(appendFrames(t, l, "start")))
	entered, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	fault.SetHook(func(op faultfs.Op) {
		if op.Kind == faultfs.Sync {
			once.Do(func() { close(entered); <-release })
		}
	})
	before := o.Metrics.Counter("vm_wal_fsyncs_total").Get()
	var wg sync.WaitGroup
	wg.Go(func() { mustWrite(t, l, "leader") })
	<-entered
	var appended sync.WaitGroup
	for i := range writers {
		appended.Add(1)
		wg.Go(func() {
			p, err := l.Append(fmt.Appendf(nil, "follower %d", i))
			appended.Done()
			if err = errors.Join(err, l.WaitDurable(p)); err != nil {
				t.Error(err)
			}
		})
	}
	appended.Wait()
	close(release)
	wg.Wait()
	if n := o.Metrics.Counter("vm_wal_fsyncs_total").Get() - before; n != 2 {
		t.Errorf("%d fsyncs for a leader and %d followers; want 2", n, writers)
	}
	if n := o.Metrics.Counter("vm_wal_frames_total").Get(); n != writers+2 {
		t.Errorf("vm_wal_frames_total is %d", n)
	}
	must(t, l.Close())
}

func mustWrite(t *testing.T, l *Log, frame string) {
	p, err := l.Append([]byte(frame))
	if err == nil {
		err = l.WaitDurable(p)
	}
	if err != nil {
		t.Error(err)
	}
}

// TestConcurrentWriters writes, rotates and removes at once. Nothing may be lost
// or reordered within a writer.
func TestConcurrentWriters(t *testing.T) {
	const writers, perWriter = 16, 200
	mem := memfs.New(memfs.Options{})
	o := options(mem)
	o.SegmentBytes = 2000
	o.Window = 10 * time.Microsecond
	l, _, _ := openLog(t, o)
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range perWriter {
				frame := binary.BigEndian.AppendUint32([]byte{byte(w)}, uint32(i))
				if i%50 == 7 {
					frame = append(frame, make([]byte, maxBuffered/2)...) // forces writing through
				}
				mustWrite(t, l, string(frame))
			}
		})
	}
	for range 100 {
		if _, err := l.Rotate(); err != nil {
			t.Error(err)
		}
		if err := l.RemoveBefore(1); err != nil {
			t.Error(err)
		}
		l.SizeBytes()
	}
	wg.Wait()
	must(t, l.Close())
	_, frames, report := openLog(t, options(mem))
	var next [writers]uint32
	for _, f := range frames {
		w, i := f[0], binary.BigEndian.Uint32([]byte(f[1:]))
		if i != next[w] {
			t.Fatalf("writer %d: frame %d follows %d", w, i, next[w])
		}
		next[w]++
	}
	if len(frames) != writers*perWriter || len(report.Damaged) > 0 || report.TornBytes > 0 || report.Missing > 0 {
		t.Errorf("%d frames, report %+v", len(frames), report)
	}
}

// TestFailureIsSticky fails every kind of operation a writer needs.
func TestFailureIsSticky(t *testing.T) {
	for _, tc := range []struct {
		name  string
		fault faultfs.Fault
	}{
		{"write", faultfs.Fault{At: 1, Kinds: []faultfs.Kind{faultfs.Write}}},
		{"short write", faultfs.Fault{At: 1, Kinds: []faultfs.Kind{faultfs.Write}, Short: true}},
		{"fsync", faultfs.Fault{At: 1, Kinds: []faultfs.Kind{faultfs.Sync}}},
		{"fsync for lack of space", faultfs.Fault{At: 1, Kinds: []faultfs.Kind{faultfs.Sync}, Err: syscall.ENOSPC}},
		{"second fsync", faultfs.Fault{At: 2, Kinds: []faultfs.Kind{faultfs.Sync}}},
		{"create", faultfs.Fault{At: 1, Kinds: []faultfs.Kind{faultfs.Create}}},
		{"sync of directory", faultfs.Fault{At: 1, Kinds: []faultfs.Kind{faultfs.SyncDir}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			mem := memfs.New(memfs.Options{})
			fault := faultfs.New(mem)
			l, _, _ := openLog(t, options(fault))
			kept := appendFrames(t, l, "kept")
			must(t, l.WaitDurable(kept))
			if _, err := l.Rotate(); err != nil {
				t.Fatal(err)
			}
			want := tc.fault.Err
			if want == nil {
				want = syscall.EIO
			}
			fault.SetFault(tc.fault)
			lost := appendFrames(t, l, "lost", "lost too")
			wantFailed(t, l.WaitDurable(lost), want)
			fault.SetFault(faultfs.Fault{}) // the disk is fine again, the log is not
			_, err := l.Append([]byte("x"))
			wantFailed(t, err, want)
			_, err = l.Rotate()
			wantFailed(t, err, want)
			wantFailed(t, l.RemoveBefore(1), want)
			wantFailed(t, l.WaitDurable(lost), want)
			wantFailed(t, l.Err(), want)
			select {
			case <-l.Failed():
			default:
				t.Error("Failed is not closed")
			}
			must(t, l.WaitDurable(kept))
			wantFailed(t, l.Close(), want)
			l, frames, _ := openLog(t, options(mem))
			if len(frames) == 0 || frames[0] != "kept" || !slices.Equal(frames, []string{"kept", "lost", "lost too"}[:len(frames)]) {
				t.Errorf("replayed %q", frames)
			}
			must(t, l.WaitDurable(appendFrames(t, l, "works again")))
			must(t, l.Close())
		})
	}
}

func wantFailed(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) || errkind.Of(err) != errkind.Internal || !strings.Contains(err.Error(), "restart") {
		t.Fatalf("error %v of kind %v; want a sticky %v", err, errkind.Of(err), want)
	}
}

// TestRemoveFailureIsNotSticky: a segment that stays is a nuisance, no danger.
func TestRemoveFailureIsNotSticky(t *testing.T) {
	mem := memfs.New(memfs.Options{})
	fault := faultfs.New(mem)
	l, _, _ := openLog(t, options(fault))
	appendFrames(t, l, "a")
	next, err := l.Rotate()
	must(t, err)
	must(t, l.WaitDurable(appendFrames(t, l, "b")))
	fault.SetFault(faultfs.Fault{At: 1, Kinds: []faultfs.Kind{faultfs.RemoveAll}})
	if err := l.RemoveBefore(next); !errors.Is(err, syscall.EIO) {
		t.Fatalf("error %v", err)
	}
	must(t, l.Err())
	must(t, l.RemoveBefore(next))
	must(t, l.Close())
	_, frames, _ := openLog(t, options(mem))
	wantFrames(t, frames, "b")
}

func TestMetrics(t *testing.T) {
	o := options(memfs.New(memfs.Options{}))
	l, _, _ := openLog(t, o)
	must(t, l.WaitDurable(appendFrames(t, l, "a", "b")))
	var b bytes.Buffer
	must(t, o.Metrics.Write(&b, false))
	for _, want := range []string{"vm_wal_frames_total 2\n", "vm_wal_fsyncs_total 2\n", "vm_wal_written_bytes_total 46\n", "vm_wal_size_bytes 46\n",
		"vm_wal_fsync_duration_seconds_count 2\n", "vm_wal_errors_total 0\n", "vm_wal_damaged_segments_total 0\n", "vm_wal_replayed_frames_total 0\n"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
	must(t, l.Close())
}

// BenchmarkWriters measures acknowledged frames of 4 KiB on the disk of the
// temporary directory.
func BenchmarkWriters(b *testing.B) {
	for _, writers := range []int{1, 8, 64} {
		b.Run(fmt.Sprint(writers), func(b *testing.B) {
			o := options(vfs.OS())
			o.Dir = b.TempDir()
			l, _, _ := openLog(b, o)
			frame := make([]byte, 4096)
			var wg sync.WaitGroup
			b.ResetTimer()
			for w := range writers {
				wg.Go(func() {
					for i := w; i < b.N; i += writers {
						p, err := l.Append(frame)
						if err = errors.Join(err, l.WaitDurable(p)); err != nil {
							b.Error(err)
						}
					}
				})
			}
			wg.Wait()
			b.StopTimer()
			b.ReportMetric(float64(o.Metrics.Counter("vm_wal_fsyncs_total").Get())/float64(b.N), "fsyncs/frame")
			must(b, l.Close())
		})
	}
}

// BenchmarkAppend measures the part under the mutex, without fsync.
func BenchmarkAppend(b *testing.B) {
	mem := memfs.New(memfs.Options{})
	l, _, _ := openLog(b, options(mem))
	frame := make([]byte, 4096)
	b.SetBytes(int64(len(frame)))
	for b.Loop() {
		if _, err := l.Append(frame); err != nil {
			b.Fatal(err)
		}
		if l.SizeBytes() > 32<<20 {
			seg, err := l.Rotate()
			must(b, err)
			must(b, l.RemoveBefore(seg))
		}
	}
	must(b, l.Close())
}
