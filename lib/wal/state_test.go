package wal

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"syscall"
	"testing"

	"vmcluster/lib/errkind"
	"vmcluster/lib/logger"
	"vmcluster/lib/metrics"
	"vmcluster/lib/vfs"
	"vmcluster/lib/vfs/faultfs"
	"vmcluster/lib/vfs/memfs"
)

func TestGoldenState(t *testing.T) {
	checkGolden(t, "state.v1.hex", appendState(nil, 0x0102030405060708))
}

func TestStateIsChecked(t *testing.T) {
	data := appendState(nil, 7)
	if first, err := parseState(data); first != 7 || err != nil {
		t.Fatalf("%d, %v", first, err)
	}
	for at := range data {
		if _, err := parseState(flipped(data, at)); errkind.Of(err) != errkind.Corrupt {
			t.Errorf("byte %d flipped: %v", at, err)
		}
		if _, err := parseState(data[:at]); errkind.Of(err) != errkind.Corrupt {
			t.Errorf("cut at byte %d: %v", at, err)
		}
	}
	later := appendState(nil, 7)
	later[4]++
	later = withChecksum(later)
	if _, err := parseState(later); errkind.Of(err) != errkind.Unsupported {
		t.Errorf("a later version gives %v", err)
	}
	mem := logWith(t, segmentBytes(1, "a"))
	must(t, vfs.WriteFileDurable(mem, testDir+"/"+stateName, later))
	if _, err := Open(options(mem)); errkind.Of(err) != errkind.Unsupported {
		t.Errorf("a log of a later version opens: %v", err)
	}
}

func FuzzState(f *testing.F) {
	f.Add(appendState(nil, 1))
	f.Fuzz(func(t *testing.T, data []byte) {
		if first, err := parseState(data); err == nil && !bytes.Equal(appendState(nil, first), data) {
			t.Fatalf("%x gives %d", data, first)
		}
	})
}

// liveLog returns the files of a log with three segments, as a killed process leaves them.
func liveLog(t *testing.T) *memfs.FS {
	mem := memfs.New(memfs.Options{})
	l, _, _ := openLog(t, options(mem))
	for _, f := range []string{"a", "b", "c"} {
		_, err := l.Rotate()
		must(t, err)
		must(t, l.WaitDurable(appendFrames(t, l, f)))
	}
	return mem
}

func counter(o Options, name string) int { return int(o.Metrics.Counter(name).Get()) }

// TestEveryFileIsMissed removes each file of a log: it is told, counted, and told once only.
func TestEveryFileIsMissed(t *testing.T) {
	all := []string{"a", "b", "c"}
	for i, name := range []string{segmentPath("", 1), segmentPath("", 2), segmentPath("", 3), segmentPath("", 4), stateName} {
		mem := liveLog(t)
		must(t, mem.Remove(testDir+"/"+strings.TrimPrefix(name, "/")))
		want := slices.Clone(all)
		if i < 3 {
			want = slices.Delete(want, i, i+1)
		}
		var noted []Damage
		o := options(mem)
		o.OnDamage = func(d Damage) { noted = append(noted, d) }
		l, frames, report := openLog(t, o)
		wantFrames(t, frames, want...)
		switch {
		case name == stateName:
			if len(noted) > 0 || counter(o, "vm_wal_damaged_state_total") != 1 {
				t.Errorf("without the state: %+v", noted)
			}
		case report.Missing != 1 || len(noted) != 1 || noted[0].Segment != uint64(i+1) || noted[0].Missing != 1 || counter(o, "vm_wal_missing_segments_total") != 1:
			t.Errorf("without %s: report %+v, noted %+v", name, report, noted)
		}
		must(t, l.WaitDurable(appendFrames(t, l, "new")))
		next, err := l.Rotate()
		must(t, err)
		must(t, l.RemoveBefore(next))
		must(t, l.Close())
		o = options(mem)
		l, frames, report = openLog(t, o)
		wantFrames(t, frames)
		if report.Missing != 0 || counter(o, "vm_wal_damaged_state_total") != 0 {
			t.Errorf("without %s: the second start reports %+v", name, report)
		}
		must(t, l.Close())
	}
}

// TestNewestSegmentsAreMissed removes the newest segments with the empty file behind them, and all there is: one is missed at least.
func TestNewestSegmentsAreMissed(t *testing.T) {
	for first := uint64(1); first <= 4; first++ {
		mem := liveLog(t)
		for n := first; n <= 4; n++ {
			must(t, mem.Remove(segmentPath(testDir, n)))
		}
		l, _, report := openLog(t, options(mem))
		if report.Missing == 0 {
			t.Errorf("without the segments from %d on: report %+v", first, report)
		}
		appendFrames(t, l, "new")
		must(t, l.Close())
		_, frames, report := openLog(t, options(mem))
		if frames[len(frames)-1] != "new" || report.Missing != 0 {
			t.Errorf("without the segments from %d on: then %q, %+v", first, frames, report)
		}
	}
}

// TestRetiredSegmentsAreNotReplayed: what RemoveBefore could not delete is not handed out, as only a part of it may be left.
func TestRetiredSegmentsAreNotReplayed(t *testing.T) {
	mem := liveLog(t)
	must(t, vfs.WriteFileDurable(mem, testDir+"/"+stateName, appendState(nil, 3)))
	must(t, mem.Remove(segmentPath(testDir, 2)))
	l, frames, report := openLog(t, options(mem))
	wantFrames(t, frames, "c")
	if report.Missing != 0 {
		t.Errorf("report %+v", report)
	}
	next, err := l.Rotate()
	must(t, err)
	must(t, l.RemoveBefore(next))
	wantFrames(t, segmentNames(t, mem), "4")
}

// TestRemoveBeforeOnFullDisk: segments which are not needed any more make the room for saying so.
func TestRemoveBeforeOnFullDisk(t *testing.T) {
	mem := memfs.New(memfs.Options{})
	l, _, _ := openLog(t, options(mem))
	must(t, l.WaitDurable(appendFrames(t, l, strings.Repeat("x", 5000))))
	next, err := l.Rotate()
	must(t, err)
	space, err := mem.Space("/")
	must(t, err)
	mem.SetCapacity(space.Total - space.Free)
	must(t, l.RemoveBefore(next))
	wantFrames(t, segmentNames(t, mem), "2")
	must(t, l.Close())
}

// TestBadSector reads logs with pages which cannot be read: the frames around are replayed, the hole is told, and a copy is kept. That holds for the last
// segment, too, where it must not pass for a write which a crash has torn.
func TestBadSector(t *testing.T) {
	rng := newRand(t)
	for round := range 60 {
		var frames []string
		for i := range 40 {
			frames = append(frames, fmt.Sprintf("%02d", i)+strings.Repeat("f", rng.IntN(2000)))
		}
		data := segmentBytes(1, frames...)
		page := int64(rng.IntN(len(data)/pageBytes + 1))
		from, to := page*pageBytes, min((page+1+int64(rng.IntN(3)))*pageBytes, int64(len(data)))
		segments := [][]byte{data}
		if round%2 == 0 {
			segments = append(segments, segmentBytes(2, "end"))
		}
		mem := logWith(t, segments...)
		fault := faultfs.New(mem)
		fault.SetUnreadable(segmentPath(testDir, 1), from, to)
		o := options(fault)
		l, got, report := openLog(t, o)
		want := readableFrames(frames, from, to)
		if round%2 == 0 {
			want = append(want, "end")
		}
		wantFrames(t, got, want...)
		if from == 0 && to <= headerBytes {
			continue
		}
		if len(report.Damaged) == 0 || report.TornBytes != 0 || counter(o, "vm_wal_damaged_segments_total") == 0 {
			t.Fatalf("bytes %d to %d of %d: report %+v", from, to, len(data), report)
		}
		if d := report.Damaged[0]; d.Cause == nil || d.Offset > to || d.Offset+d.LostBytes < from || !strings.Contains(d.String(), "input/output error") {
			t.Errorf("bytes %d to %d: damage %s", from, to, d)
		}
		if kept, err := mem.ReadFile(segmentPath(testDir, 1) + damagedSuffix); err != nil || !bytes.Equal(kept, data) {
			t.Errorf("the copy differs, %v", err)
		}
		must(t, l.Close())
	}
}

// readableFrames returns the frames which do not touch the bytes [from, to) of their segment.
func readableFrames(frames []string, from, to int64) (list []string) {
	offset := int64(headerBytes)
	for _, f := range frames {
		end := offset + frameHeadBytes + int64(len(f))
		if end <= from || offset >= to {
			list = append(list, f)
		}
		offset = end
	}
	return list
}

// TestPassingReadError: an error which goes away costs nothing.
func TestPassingReadError(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789"), 2000)
	r := &pageReader{file: &flaky{Reader: bytes.NewReader(data)}, size: int64(len(data))}
	got, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(got, data) || r.cause != nil {
		t.Errorf("%d bytes, %v, %v", len(got), err, r.cause)
	}
}

// flaky fails every other read.
type flaky struct {
	*bytes.Reader
	n int
}

func (f *flaky) Close() error { return nil }

func (f *flaky) ReadAt(p []byte, offset int64) (int, error) {
	if f.n++; f.n%2 == 1 {
		return 0, syscall.EIO
	}
	return f.Reader.ReadAt(p, offset)
}

// TestDeadDisk: a disk which can read nothing of a large segment is not asked for every page.
func TestDeadDisk(t *testing.T) {
	const size = 64 << 20
	dead := &deadFile{}
	n, err := io.Copy(io.Discard, &pageReader{file: dead, size: size})
	if n != size || err != nil || dead.reads > 300 {
		t.Errorf("%d bytes, %v, %d reads", n, err, dead.reads)
	}
}

type deadFile struct{ reads int }

func (d *deadFile) Close() error             { return nil }
func (d *deadFile) Read([]byte) (int, error) { return 0, syscall.EIO }
func (d *deadFile) ReadAt([]byte, int64) (int, error) {
	d.reads++
	return 0, syscall.EIO
}

// TestOpenErrorRefuses: a segment which cannot be opened says nothing about its contents.
func TestOpenErrorRefuses(t *testing.T) {
	fault := faultfs.New(logWith(t, segmentBytes(1, "a"), segmentBytes(2, "b")))
	l, err := Open(options(fault))
	must(t, err)
	fault.SetFault(faultfs.Fault{At: 2, Kinds: []faultfs.Kind{faultfs.Read}, Err: syscall.EACCES})
	if _, err := l.Replay(func([]byte) error { return nil }); err == nil {
		t.Error("a segment that cannot be opened was passed over")
	}
}

// TestDamageIsLogged: without a callback the log itself names segment, offset and bytes.
func TestDamageIsLogged(t *testing.T) {
	var text bytes.Buffer
	o := options(logWith(t, segmentBytes(1, "a", "bb"), nil, flipped(segmentBytes(3, "c", "d"), headerBytes+frameHeadBytes)))
	var err error
	o.Logger, err = logger.New(&logger.Config{DisableTimestamps: true}, &text, metrics.NewSet())
	must(t, err)
	openLog(t, o)
	for _, want := range []string{`00000000000000000002" is missing`, `00000000000000000003" is damaged at byte 20, and 13 bytes`} {
		if got := text.String(); !strings.Contains(got, want) {
			t.Errorf("the log lacks %q: %s", want, got)
		}
	}
}
