package wal

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"vmcluster/lib/errkind"
	"vmcluster/lib/vfs"
	"vmcluster/lib/vfs/faultfs"
	"vmcluster/lib/vfs/memfs"
)

// segmentBytes returns a segment file with the given frames, each durable before the next was written.
func segmentBytes(number uint64, frames ...string) []byte {
	data, salt := appendHeader(nil, number)
	for _, f := range frames {
		start := len(data)
		data = appendFrame(data, []byte(f), frameChecksum([]byte(f)), salt)
		markDurableBefore(data[start:], salt)
	}
	return data
}

// groupBytes returns a segment file with the given frames, which were written at once.
func groupBytes(number uint64, frames ...string) []byte {
	data, salt := appendHeader(nil, number)
	for _, f := range frames {
		data = appendFrame(data, []byte(f), frameChecksum([]byte(f)), salt)
	}
	markDurableBefore(data[headerBytes:], salt)
	return data
}

// logWith returns a file system with the given segment files, numbered from 1;
// nil leaves a number out. The state and the file behind the newest segment are there.
func logWith(t testing.TB, segments ...[]byte) *memfs.FS {
	t.Helper()
	mem := memfs.New(memfs.Options{})
	must(t, vfs.MkdirAllDurable(mem, testDir))
	for i, data := range segments {
		if data != nil {
			must(t, vfs.WriteFileDurable(mem, segmentPath(testDir, uint64(i+1)), data))
		}
	}
	must(t, vfs.WriteFileDurable(mem, segmentPath(testDir, uint64(len(segments)+1)), nil))
	must(t, vfs.WriteFileDurable(mem, testDir+"/"+stateName, appendState(nil, 1)))
	return mem
}

func flipped(data []byte, at int) []byte {
	data = bytes.Clone(data)
	data[at] ^= 0x10
	return data
}

func TestTornTailIsCut(t *testing.T) {
	rng := newRand(t)
	whole := segmentBytes(2, "b", "cc", "ddd")
	ends := map[int]int{headerBytes: 0, headerBytes + frameHeadBytes + 1: 1, headerBytes + 2*frameHeadBytes + 3: 2, len(whole): 3}
	for size := range len(whole) + 1 {
		for _, junk := range []string{"", "\x00\x00\x00", strings.Repeat("\x00", 40), strings.Repeat("\xff", 12)} {
			mem := logWith(t, segmentBytes(1, "a"), append(bytes.Clone(whole[:size]), junk...))
			unborn := size+len(junk) <= headerBytes
			if unborn { // a crash which tears the header comes before the next successor
				must(t, mem.Remove(segmentPath(testDir, 3)))
			}
			l, frames, report := openLog(t, options(mem))
			frameCount, intact := 0, 0
			for end, n := range ends {
				if end <= size {
					frameCount, intact = max(frameCount, n), max(intact, end)
				}
			}
			wantFrames(t, frames, []string{"a", "b", "cc", "ddd"}[:1+frameCount]...)
			if damagedHeader := size < headerBytes && size+len(junk) > headerBytes; damagedHeader {
				if len(report.Damaged) != 1 {
					t.Errorf("size %d, junk %q: report %+v", size, junk, report)
				}
			} else if want := int64(size + len(junk) - intact); unborn && report.TornBytes != 0 || !unborn && report.TornBytes != want || len(report.Damaged) > 0 {
				t.Errorf("size %d, junk %q: report %+v; want %d torn bytes", size, junk, report, want)
			}
			damaged := len(report.Damaged)
			appendFrames(t, l, "new")
			must(t, l.Close())
			_, after, report := openLog(t, options(mem.Crash(rng))) // what was cut must not come back
			wantFrames(t, after, append(frames, "new")...)
			if report.TornBytes != 0 || report.Missing != 0 || len(report.Damaged) != damaged {
				t.Errorf("size %d, junk %q: second replay reports %+v", size, junk, report)
			}
		}
	}
}

// TestDamagedFrameIsSkipped flips a bit of every byte of a segment: one frame is lost, or none when it is the header.
func TestDamagedFrameIsSkipped(t *testing.T) {
	list := []string{"a", "bb", "ccc"}
	first := segmentBytes(1, list...)
	ends := []int{headerBytes}
	for _, f := range list {
		ends = append(ends, ends[len(ends)-1]+frameHeadBytes+len(f))
	}
	for at := range first {
		lost := slices.IndexFunc(ends, func(end int) bool { return at < end }) // 0 is the header
		want := slices.Clone(list)
		damage := Damage{Segment: 1, LostBytes: int64(headerBytes), Path: segmentPath(testDir, 1)}
		if lost > 0 {
			want = slices.Delete(want, lost-1, lost)
			damage.Offset, damage.LostBytes = int64(ends[lost-1]), int64(ends[lost]-ends[lost-1])
		}
		mem := logWith(t, flipped(first, at), segmentBytes(2, "d"))
		var noted []Damage
		o := options(mem)
		o.OnDamage = func(d Damage) { noted = append(noted, d) }
		l, frames, report := openLog(t, o)
		wantFrames(t, frames, append(want, "d")...)
		if !slices.Equal(report.Damaged, []Damage{damage}) || !slices.Equal(noted, report.Damaged) {
			t.Fatalf("byte %d: report %+v, noted %+v; want %+v", at, report, noted, damage)
		}
		appendFrames(t, l, "new")
		next, err := l.Rotate()
		must(t, err)
		must(t, l.RemoveBefore(next))
		must(t, l.Close())
		kept, err := mem.ReadFile(segmentPath(testDir, 1) + damagedSuffix)
		must(t, err)
		if !bytes.Equal(kept, flipped(first, at)) {
			t.Fatal("the copy differs")
		}
		// Replaying again with the copy in place must work as well.
		l, frames, _ = openLog(t, options(mem))
		wantFrames(t, frames)
		must(t, l.Close())
	}
}

// TestRotInLastSegment: a frame that was written once everything before it was durable shows that the damage is no torn write.
func TestRotInLastSegment(t *testing.T) {
	data := segmentBytes(1, "a", "bb", "ccc")
	for at := headerBytes + frameHeadBytes + 1; at < headerBytes+2*frameHeadBytes+3; at++ {
		mem := logWith(t, flipped(data, at))
		l, frames, report := openLog(t, options(mem))
		wantFrames(t, frames, "a", "ccc")
		if len(report.Damaged) != 1 || report.TornBytes != 0 {
			t.Errorf("report %+v", report)
		}
		appendFrames(t, l, "new")
		must(t, l.Close())
		_, frames, _ = openLog(t, options(mem))
		wantFrames(t, frames, "a", "ccc", "new")
	}
}

// TestTornGroup: of frames which were written at once the first may be torn and the second whole. None was acknowledged.
func TestTornGroup(t *testing.T) {
	data := groupBytes(1, "a", "bb", "ccc")
	for at := headerBytes; at < len(data); at++ {
		mem := logWith(t, flipped(data, at))
		_, frames, report := openLog(t, options(mem))
		if want := []string{"a", "bb", "ccc"}[:len(frames)]; !slices.Equal(frames, want) || len(frames) == 3 {
			t.Errorf("byte %d: replayed %q", at, frames)
		}
		if len(report.Damaged) > 0 || report.TornBytes == 0 {
			t.Errorf("byte %d: report %+v", at, report)
		}
	}
}

func TestMissingSegmentsAreReported(t *testing.T) {
	mem := logWith(t, segmentBytes(1, "a"), nil, nil, segmentBytes(4, "b"))
	must(t, vfs.WriteFileDurable(mem, testDir+"/notes.txt", []byte("not ours")))
	must(t, mem.MkdirAll(testDir+"/00000000000000000009"))
	_, frames, report := openLog(t, options(mem))
	wantFrames(t, frames, "a", "b")
	if report.Missing != 2 || report.Segments != 2 {
		t.Errorf("report %+v", report)
	}
}

// TestForeignFramesAreNotReplayed: a frame of another segment, as it may lie in
// a disk block used again, has the wrong salt; so has a renamed file.
func TestForeignFramesAreNotReplayed(t *testing.T) {
	data := append(segmentBytes(2, "own"), segmentBytes(1, "foreign")[headerBytes:]...)
	_, frames, _ := openLog(t, options(logWith(t, segmentBytes(1, "a"), data)))
	wantFrames(t, frames, "a", "own")
	_, frames, report := openLog(t, options(logWith(t, segmentBytes(7, "renamed"), segmentBytes(2, "b"))))
	wantFrames(t, frames, "b")
	if len(report.Damaged) != 1 {
		t.Errorf("report %+v", report)
	}
}

func TestReplayErrors(t *testing.T) {
	mem := logWith(t, segmentBytes(1, "a", "b"))
	stop := errors.New("stop")
	l, err := Open(options(mem))
	must(t, err)
	if _, err := l.Replay(func([]byte) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("error of the callback came out as %v", err)
	}
	must(t, l.Close())
	fault := faultfs.New(mem)
	l, err = Open(options(fault))
	must(t, err)
	fault.SetFault(faultfs.Fault{At: 1, Kinds: []faultfs.Kind{faultfs.Read}})
	if _, err := l.Replay(func([]byte) error { return nil }); err == nil {
		t.Error("a file that cannot be read was passed over")
	}
	later := segmentBytes(1, "a")
	header, _ := appendHeader(nil, 1)
	header[4] = 9
	later = append(withChecksum(header), later[headerBytes:]...)
	l, err = Open(options(logWith(t, later)))
	must(t, err)
	if _, err := l.Replay(func([]byte) error { return nil }); errkind.Of(err) != errkind.Unsupported {
		t.Errorf("a later version gives %v", err)
	}
}

func TestGoldenSegment(t *testing.T) {
	var e FrameEncoder
	mem := memfs.New(memfs.Options{})
	l, _, _ := openLog(t, options(mem))
	appendFrames(t, l, "any bytes", string(encode(&e, goldenEvents())))
	must(t, l.Close())
	data, err := mem.ReadFile(segmentPath(testDir, 1))
	must(t, err)
	checkGolden(t, "segment.v2.hex", data)
}

// TestOnDisk runs on the real file system.
func TestOnDisk(t *testing.T) {
	o := options(vfs.OS())
	o.Dir = t.TempDir() + "/wal/0"
	o.SegmentBytes = 1000
	var want []string
	for round := range 3 {
		l, frames, _ := openLog(t, o)
		wantFrames(t, frames, want...)
		for i := range 50 {
			f := fmt.Sprintf("round %d frame %d %s", round, i, strings.Repeat("x", i))
			want = append(want, f)
			mustWrite(t, l, f)
		}
		must(t, l.Close())
	}
	must(t, o.FS.Truncate(segmentPath(o.Dir, 1), 100))
	_, frames, report := openLog(t, o)
	if len(report.Damaged) != 1 || len(frames) >= len(want) || frames[len(frames)-1] != want[len(want)-1] {
		t.Errorf("%d frames, report %+v", len(frames), report)
	}
}

func FuzzSegment(f *testing.F) {
	f.Add(segmentBytes(1, "a", "bb"), "", 0)
	f.Add(segmentBytes(1, "a", "bb")[:25], "zzz", 3)
	f.Add([]byte{}, "", 0)
	f.Fuzz(func(t *testing.T, data []byte, tail string, at int) {
		r := segmentReader{r: bufio.NewReader(bytes.NewReader(data)), size: int64(len(data))}
		rebuilt, salt := appendHeader(nil, 1)
		if err := r.header(1); err == nil {
			for frame, err := r.next(); !errors.Is(err, io.EOF); frame, err = r.next() {
				if err != nil {
					break
				}
				start := len(rebuilt)
				rebuilt = appendFrame(rebuilt, frame, frameChecksum(frame), salt)
				if r.head.durableBefore {
					markDurableBefore(rebuilt[start:], salt)
				}
				if !bytes.Equal(rebuilt, data[:r.offset]) {
					t.Fatalf("frames up to byte %d do not add up", r.offset)
				}
			}
		}
		// A log with this segment, last or not, opens and takes frames.
		mem := logWith(t, append(bytes.Clone(data), tail...))
		if at%2 == 1 {
			mem = logWith(t, data, segmentBytes(2, "x"))
		}
		l, err := Open(options(mem))
		must(t, err)
		if _, err := l.Replay(func([]byte) error { return nil }); err != nil {
			if errkind.Of(err) != errkind.Unsupported {
				t.Fatal(err)
			}
			return
		}
		appendFrames(t, l, "new")
		must(t, l.Close())
		l, frames, _ := openLog(t, options(mem))
		if len(frames) == 0 || frames[len(frames)-1] != "new" {
			t.Fatalf("the new frame is not replayed: %q", frames)
		}
		must(t, l.Close())
	})
}
