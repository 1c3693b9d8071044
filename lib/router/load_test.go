package router

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"vmcluster/lib/errkind"
)

// Each step is what is under way to some nodes, oldest piece first in milliseconds, and whether the first node is slow. The window has room for two pieces.
func TestSlowScript(t *testing.T) {
	now := time.Unix(1000, 0)
	w := window{pieces: 2, bytes: 1000}
	for _, script := range []struct {
		what string
		ages [][]int
		kind errkind.Kind // of the first node
		down int          // this one has failed
		want bool
	}{
		{"all idle", [][]int{{}, {}, {}}, errkind.OK, -1, false},
		{"all rules hold", [][]int{{2500, 10}, {20}, {}}, errkind.OK, -1, true},
		{"not for long enough", [][]int{{1900, 10}, {20}, {}}, errkind.OK, -1, false},
		{"the window has room", [][]int{{2500}, {}, {}}, errkind.OK, -1, false},
		{"another one is nearly as slow", [][]int{{2500, 10}, {700}, {}}, errkind.OK, -1, false},
		{"another one is slower", [][]int{{2500, 10}, {9000, 10}, {}}, errkind.OK, -1, false},
		{"two nodes", [][]int{{2500, 10}, {}}, errkind.OK, -1, false},
		{"two ready nodes", [][]int{{2500, 10}, {}, {}}, errkind.OK, 2, false},
		{"three ready nodes, and a slower one which is not", [][]int{{2500, 10}, {}, {}, {3000, 10}}, errkind.OK, 3, true},
		{"a probe of a node known as slow", [][]int{{2500}, {}, {}}, errkind.Overloaded, -1, true},
		{"a node that was gone", [][]int{{2500, 10}, {}, {}}, errkind.Unavailable, -1, false},
	} {
		var states []*nodeState
		for i, ages := range script.ages {
			s := &nodeState{}
			for _, ms := range ages {
				s.load.enter(now.Add(-time.Duration(ms)*time.Millisecond), 1)
			}
			if i == script.down {
				s.health.kind = errkind.Unavailable
			}
			states = append(states, s)
		}
		states[0].health.kind = script.kind
		if got := slow(states, 0, w, now); got != script.want {
			t.Errorf("%s: slow is %v; want %v", script.what, got, script.want)
		}
	}
	var huge load
	huge.enter(now, 1000)
	if !w.exceeded(&huge, now) {
		t.Error("a window which is full of bytes is not exceeded")
	}
}

// As above, for a piece sent some milliseconds ago; the node has answered last so many milliseconds ago, and nodes may hang for 3 s.
func TestHangsScript(t *testing.T) {
	now := time.Unix(1000, 0)
	ago := func(ms int) time.Time { return now.Add(-time.Duration(ms) * time.Millisecond) }
	for _, script := range []struct {
		what              string
		sent, heard, fail int // fail: when the node was found to hang; 0 means it was not
		others            []int
		down, copies      int
		want              bool
	}{
		{"silent for long enough", 3000, 4000, 0, []int{10, 0}, -1, 2, true},
		{"it has answered meanwhile", 3000, 2900, 0, []int{10, 0}, -1, 2, false},
		{"sent not long ago", 2900, 9000, 0, []int{10, 0}, -1, 2, false},
		{"another one is slow as well", 9000, 9000, 0, []int{800, 0}, -1, 2, false},
		{"too few others for all copies", 9000, 9000, 0, []int{10, 0}, 1, 2, false},
		{"enough for one", 9000, 9000, 0, []int{10, 0}, 1, 1, true},
		{"known to hang since the piece was sent", 100, 9000, 50, []int{10, 0}, -1, 2, true},
		{"a probe of a node known to hang", 100, 9000, 200, []int{10, 0}, -1, 2, false},
		{"known, and the others are slow", 100, 9000, 50, []int{800, 0}, -1, 2, false},
	} {
		first := &nodeState{load: load{since: []time.Time{ago(script.sent)}, heard: ago(script.heard)}}
		if script.fail > 0 {
			first.health.kind, first.health.at = errkind.Timeout, ago(script.fail)
		}
		states := []*nodeState{first}
		for i, ms := range script.others {
			s := &nodeState{}
			s.load.enter(ago(ms), 1)
			if i == script.down {
				s.health.kind = errkind.Unavailable
			}
			states = append(states, s)
		}
		if got := (hangRule{script.copies, 3 * time.Second}).hangs(states, 0, ago(script.sent), now); got != script.want {
			t.Errorf("%s: hangs is %v; want %v", script.what, got, script.want)
		}
	}
}

func TestLoadAgainstModel(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	start := time.Unix(1000, 0)
	var l load
	var model []time.Duration
	for range 1000 {
		if d := time.Duration(rng.IntN(100)); rng.IntN(2) == 0 {
			l.enter(start.Add(d), int64(d))
			model = append(model, d)
		} else if len(model) > 0 {
			i := rng.IntN(len(model))
			l.leave(start.Add(model[i]), int64(model[i]))
			model = slices.Delete(model, i, i+1)
		}
		lag, bytes := time.Duration(0), int64(0)
		for _, d := range model {
			lag, bytes = max(lag, 100-d), bytes+int64(d)
		}
		if got := l.lag(start.Add(100)); got != lag || l.bytes != bytes || len(l.since) != len(model) {
			t.Fatalf("the load is %s, %d bytes, %d pieces; want %s, %d, %d", got, l.bytes, len(l.since), lag, bytes, len(model))
		}
	}
}
