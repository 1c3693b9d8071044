package storage

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"vmcluster/lib/codec"
	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
	"vmcluster/lib/vfs"
	"vmcluster/lib/vfs/faultfs"
	"vmcluster/lib/vfs/memfs"
)

func someLosses() losses {
	return losses{
		{segment: 3, segments: 1, bytes: 4096, r: model.TimeRange{Min: 1_700_000_000_000, Max: 1_700_000_060_000}},
		{segment: 7, segments: 2, rows: 12, r: model.TimeRange{Min: -5, Max: 1_700_000_060_000}},
	}
}

func TestLossesGolden(t *testing.T) {
	path := filepath.Join("testdata", "lost.v1.hex")
	data := hex.Dump(appendLosses(nil, someLosses()))
	if *update {
		if err := os.WriteFile(path, []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || string(want) != data {
		t.Errorf("the format has changed; raise its version and run with -update: %v\ngot\n%swant\n%s", err, data, want)
	}
	got, err := parseLosses(appendLosses(nil, someLosses()))
	if err != nil || !reflect.DeepEqual(got, someLosses()) {
		t.Errorf("got %+v, %v", got, err)
	}
}

func FuzzLosses(f *testing.F) {
	f.Add(appendLosses(nil, someLosses()))
	f.Add(appendLosses(nil, nil))
	f.Fuzz(func(t *testing.T, data []byte) {
		if n := len(data) - 4; n > 0 { // the fuzzer gets behind the checksum
			data = appendChecksum(bytes.Clone(data[:n]))
		}
		l, err := parseLosses(data)
		if err != nil {
			return
		}
		again, err := parseLosses(appendLosses(nil, l))
		if err != nil || !slices.Equal(again, l) {
			t.Fatalf("%+v became %+v, %v", l, again, err)
		}
	})
}

func appendChecksum(data []byte) []byte {
	return binary.LittleEndian.AppendUint32(data, codec.Checksum(data))
}

func TestLossesAreJoined(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	var l losses
	var all []loss
	for range 2 * maxLosses {
		from := rng.Int64N(1e6)
		x := loss{segment: 1 + rng.Uint64N(600), segments: 1, bytes: rng.Int64N(100), r: model.TimeRange{Min: from, Max: from + rng.Int64N(1000)}}
		all = append(all, x)
		l = l.add(x)
		if len(l) > maxLosses || !slices.IsSortedFunc(l, func(a, b loss) int { return int(a.segment) - int(b.segment) }) {
			t.Fatalf("%d entries: %+v", len(l), l)
		}
	}
	for _, x := range all {
		if !slices.ContainsFunc(l, func(y loss) bool { return y.r.Min <= x.r.Min && x.r.Max <= y.r.Max && y.bytes >= x.bytes }) {
			t.Errorf("%+v is not covered", x)
		}
	}
}

func TestSpan(t *testing.T) {
	r := func(from, to int64) model.TimeRange { return model.TimeRange{Min: from, Max: to} }
	seg := func(number uint64, first, all, last model.TimeRange) segmentSpan {
		return segmentSpan{number: number, first: timeSpan{first, true}, all: timeSpan{all, true}, last: timeSpan{last, true}}
	}
	list := []segmentSpan{
		seg(2, r(1000, 1010), r(1000, 1200), r(1190, 1200)),
		{number: 3},
		seg(4, r(1300, 1310), r(1300, 1500), r(1490, 1500)),
	}
	b := lossBounds{ageMs: 100, inAll: r(10, 9000)}
	for _, c := range []struct {
		name     string
		list     []segmentSpan
		from, to uint64
		want     model.TimeRange
	}{
		{"in the first", list, 2, 2, r(900, 1310)},
		{"nothing readable", list, 3, 3, r(1190, 1310)},
		{"in the last", list, 4, 4, r(1190, 9000)},
		{"missing behind", list, 5, 5, r(1490, 9000)},
		{"missing before", list, 1, 1, r(900, 1010)},
		{"all", list, 1, 9, r(900, 9000)},
		{"nothing is known", nil, 1, 1, r(10, 9000)},
		{"nothing is readable", list[1:2], 3, 3, r(10, 9000)},
	} {
		if got := span(c.list, c.from, c.to, b); got != c.want {
			t.Errorf("%s: %+v; want %+v", c.name, got, c.want)
		}
	}
}

// logFiles returns the segments of the log, by number.
func logFiles(t *testing.T, fsys vfs.FS) (paths []string) {
	t.Helper()
	dir := filepath.Join(testPath, "wal", "0")
	entries, err := fsys.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if len(e.Name) == 20 && e.Size > 20 {
			paths = append(paths, filepath.Join(dir, e.Name))
		}
	}
	return paths
}

// killedWithLog returns a storage which was killed with samples of series a at minutes 0 to 9 in its log.
func killedWithLog(t *testing.T) *memfs.FS {
	fsys := memfs.New(memfs.Options{})
	faulty := faultfs.New(fsys)
	s := openTest(t, testConfig(), testOptions(faulty))
	ingest(t, s, named(t, "a", testNow().UnixMilli()-3600_000, 1))
	if err := s.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	for i := range int64(10) {
		ingest(t, s, named(t, "a", testNow().UnixMilli()+i*60_000, 1))
	}
	kill(faulty, s)
	return fsys
}

// minutes is a range of time in minutes from testNow on.
func minutes(from, to int64) model.TimeRange {
	return model.TimeRange{Min: testNow().UnixMilli() + from*60_000, Max: testNow().UnixMilli() + to*60_000}
}

// checkLoss opens the storage: answers about the time of the loss are partial, labels included, until the operator accepts it. Others are not.
func checkLoss(t *testing.T, fsys vfs.FS, in, out model.TimeRange, lines ...string) {
	t.Helper()
	for round := range 2 {
		o, log := logged(t, fsys)
		s := openTest(t, testConfig(), o)
		if _, cov := readCovered(t, s, in); !cov.Partial {
			t.Errorf("start %d: the answer is not partial; log: %s", round, log)
		}
		values, err := s.LabelValues(context.Background(), &model.SearchQuery{Range: in}, model.MetricNameLabel, 0)
		if err != nil || !values.Coverage.Partial {
			t.Errorf("start %d: label values %+v, %v", round, values, err)
		}
		if _, cov := readCovered(t, s, out); cov.Partial {
			t.Errorf("start %d: an answer about another time is partial: %+v", round, cov)
		}
		wantMetrics(t, o.Metrics, map[string]string{"vm_storage_log_losses": "1"})
		if round == 0 {
			wantLog(t, log, lines...)
		} else {
			wantLog(t, log, "the log has lost samples of", "lost\" and restart to accept the loss")
		}
		closeTest(t, s)
	}
	if err := fsys.Remove(filepath.Join(testPath, "wal", "lost")); err != nil {
		t.Fatal(err)
	}
	s := openTest(t, testConfig(), testOptions(fsys))
	if _, cov := readCovered(t, s, in); cov.Partial {
		t.Error("the loss is still told after it was accepted")
	}
	closeTest(t, s)
}

func TestDamagedLogRecord(t *testing.T) {
	fsys := killedWithLog(t)
	rewrite(t, fsys, logFiles(t, fsys)[0], func(data []byte) { data[len(data)/2] ^= 1 })
	checkLoss(t, fsys, minutes(4, 5), minutes(-80, -70), "is damaged at byte", "samples of [2026-11-10T00:00:00", "may be lost")
}

func TestMissingLogSegment(t *testing.T) {
	fsys := killedWithLog(t)
	if err := fsys.Remove(logFiles(t, fsys)[0]); err != nil {
		t.Fatal(err)
	}
	checkLoss(t, fsys, minutes(-1, 0), model.TimeRange{Min: 0, Max: 1}, `00000000000000000002" is missing; samples of [`)
}

// TestMissingLog removes the log as a whole, which looks like a restored backup: a warning tells of it, once.
func TestMissingLog(t *testing.T) {
	fsys := killedWithLog(t)
	if err := fsys.RemoveAll(filepath.Join(testPath, "wal")); err != nil {
		t.Fatal(err)
	}
	for _, want := range []bool{true, false} {
		o, log := logged(t, fsys)
		s := openTest(t, testConfig(), o)
		if got := strings.Contains(log.String(), "the log in \"/data/wal\" is new, though there are data of 1 months"); got != want {
			t.Errorf("told: %t; want %t: %s", got, want, log)
		}
		closeTest(t, s)
	}
}

// TestLogOnBadSector starts on a log with a page that cannot be read.
func TestLogOnBadSector(t *testing.T) {
	fsys := memfs.New(memfs.Options{})
	faulty := faultfs.New(fsys)
	s := openTest(t, testConfig(), testOptions(faulty))
	for i := range int64(300) {
		ingest(t, s, named(t, "a", testNow().UnixMilli()+i*1000, 1))
	}
	kill(faulty, s)
	path := logFiles(t, fsys)[0]
	faulty.SetUnreadable(path, 4096, 8192)
	o, log := logged(t, faulty)
	s = openTest(t, testConfig(), o)
	got, cov := readCovered(t, s, allTime())
	if n := len(got[string(named(t, "a", 0, 0).Key(0))]); n < 100 || n > 250 || !cov.Partial {
		t.Errorf("%d samples, %+v", n, cov)
	}
	wantLog(t, log, "it cannot be read:", "input/output error", "may be lost, and answers over that time are marked partial")
	closeTest(t, s)
	if _, err := fsys.ReadFile(path + ".damaged"); err != nil {
		t.Error(err)
	}
}

// TestDamagedListOfLosses: what cannot be told any more may be everything.
func TestDamagedListOfLosses(t *testing.T) {
	fsys := killedWithLog(t)
	path := filepath.Join(testPath, "wal", "lost")
	data := appendLosses(nil, someLosses())
	data[7] ^= 1
	if err := vfs.WriteFileDurable(fsys, path, data); err != nil {
		t.Fatal(err)
	}
	o, log := logged(t, fsys)
	s := openTest(t, testConfig(), o)
	if _, cov := readCovered(t, s, minutes(0, 1)); !cov.Partial {
		t.Error("the answer is not partial")
	}
	closeTest(t, s)
	wantLog(t, log, "cannot read \""+path)
	data = appendLosses(nil, nil)
	data[4]++
	if err := vfs.WriteFileDurable(fsys, path, appendChecksum(data[:len(data)-4])); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(testConfig(), testOptions(fsys)); errkind.Of(err) != errkind.Unsupported {
		t.Errorf("a later version: %v", err)
	}
}

// TestLossesLeaveRetention: nobody asks for the time any more.
func TestLossesLeaveRetention(t *testing.T) {
	fsys := killedWithLog(t)
	path := filepath.Join(testPath, "wal", "lost")
	old := losses{{segment: 1, segments: 1, r: model.TimeRange{Min: 1, Max: 2}}}
	if err := vfs.WriteFileDurable(fsys, path, appendLosses(nil, old)); err != nil {
		t.Fatal(err)
	}
	s := openTest(t, testConfig(), testOptions(fsys))
	closeTest(t, s)
	if _, err := fsys.ReadFile(path); err == nil || !strings.Contains(err.Error(), "not exist") && !strings.Contains(err.Error(), "no such") {
		t.Errorf("the list is still there: %v", err)
	}
}
