package selectrpc

import (
	"context"
	"reflect"
	"strings"
	"testing"
	"time"

	"vmcluster/lib/errkind"
	"vmcluster/lib/fragment"
	"vmcluster/lib/model"
	"vmcluster/lib/storageapi"
	"vmcluster/lib/trace"
)

func goldenTrace() *trace.Node {
	return &trace.Node{Message: "search at vmstorage", Duration: 1500 * time.Microsecond, Children: []trace.Node{
		{Message: "wait for a turn", Duration: 1},
		{Message: "find the series", Duration: time.Millisecond, Children: []trace.Node{{Message: "month", Duration: time.Microsecond}}},
	}}
}

// parsed returns what a last frame tells.
func parsed(t *testing.T, frame []byte) (trace.Node, storageapi.Coverage) {
	t.Helper()
	step := trace.New(time.Now, time.Now(), "")
	cov, err := parseEnd(frame, step)
	if err != nil {
		t.Fatal(err)
	}
	return step.Node(), cov
}

func TestTraceRoundTrip(t *testing.T) {
	frame := appendCoverage(appendTrace(nil, goldenTrace()), goldenCoverage())
	if n, cov := parsed(t, frame); !reflect.DeepEqual(n.Children, []trace.Node{*goldenTrace()}) || !cov.Partial || len(cov.Failed) != 2 {
		t.Errorf("got %+v, %+v", n, cov)
	}
	if n, cov := parsed(t, appendTrace(nil, goldenTrace())); len(n.Children) != 1 || cov.Partial {
		t.Errorf("a whole answer: %+v, %+v", n, cov)
	}
	if n, _ := parsed(t, nil); len(n.Children) != 0 {
		t.Errorf("no trace: %+v", n)
	}
	for i := 1; i < len(appendTrace(nil, goldenTrace())); i++ {
		if _, err := parseEnd(frame[:i], nil); errkind.Of(err) != errkind.Corrupt {
			t.Errorf("a trace cut at %d gives %v", i, err)
		}
	}
}

// TestTraceIsBounded: traces are cut where they become too deep, too long or too large.
func TestTraceIsBounded(t *testing.T) {
	deep := trace.Node{Message: strings.Repeat("x", 2*maxTraceMessage)}
	for range 2 * maxTraceDepth {
		deep = trace.Node{Message: "deep", Children: []trace.Node{deep}}
	}
	n, _ := parsed(t, appendTrace(nil, &deep))
	depth := 0
	for ; len(n.Children) > 0; n = n.Children[0] {
		depth++
	}
	if depth != maxTraceDepth {
		t.Errorf("%d steps within each other; want %d", depth, maxTraceDepth)
	}
	wide := trace.Node{}
	for range trace.MaxChildren {
		wide.Children = append(wide.Children, trace.Node{Message: strings.Repeat("x", 2*maxTraceMessage), Children: goldenTrace().Children})
	}
	frame := appendTrace(nil, &wide)
	if len(frame) > 2*maxTraceBytes {
		t.Errorf("a trace takes %d bytes", len(frame))
	}
	if n, _ := parsed(t, frame); len(n.Children[0].Children) != trace.MaxChildren || len(n.Children[0].Children[0].Message) != maxTraceMessage {
		t.Error("steps are missing, or too long")
	}
}

// tracingStore notes steps of what it is asked.
type tracingStore struct {
	fake
	traced bool
}

func (s *tracingStore) Search(ctx context.Context, q *model.SearchQuery) (storageapi.SeriesIterator, error) {
	s.note(ctx)
	return s.fake.Search(ctx, q)
}

func (s *tracingStore) LabelNames(ctx context.Context, q *model.SearchQuery, limit int) (storageapi.Strings, error) {
	s.note(ctx)
	return s.fake.LabelNames(ctx, q, limit)
}

func (s *tracingStore) Reduce(ctx context.Context, _ *fragment.Fragment) (storageapi.Reduction, error) {
	s.note(ctx)
	return storageapi.Reduction{}, nil
}

func (s *tracingStore) note(ctx context.Context) {
	step := trace.From(ctx)
	s.traced = step != nil
	step.Begin("look").End(": found")
}

// askAll makes one request of each kind, and returns how many fail.
func askAll(ctx context.Context, c *Client, f *fake) (failures int) {
	it, err := c.Search(ctx, everything())
	if err == nil {
		_, err = count(it, f)
		_ = it.Close() // the error of the search says it
	}
	if err != nil {
		failures++
	}
	if _, err := c.LabelNames(ctx, everything(), 0); err != nil {
		failures++
	}
	if _, err := c.Reduce(ctx, goldenFragment().fragment); err != nil {
		failures++
	}
	return failures
}

func TestTraceOverNetwork(t *testing.T) {
	for _, tc := range []struct{ asked, denied bool }{{true, false}, {true, true}, {false, false}} {
		store := &tracingStore{fake: fake{series: 3, blocks: 1, size: 10}}
		n := inMemory()
		_, addr := serve(t, n, ServerOptions{Searcher: store, Reducer: store, Config: ServerConfig{DenyQueryTracing: tc.denied}})
		c := dial(t, n, addr)
		eventually(t, "there is a connection", c.Reachable)
		ctx := t.Context()
		var root *trace.Span
		if tc.asked {
			root = trace.New(time.Now, time.Now(), "query")
			ctx = root.Within(ctx)
		}
		if failures := askAll(ctx, c, &store.fake); failures > 0 {
			t.Fatalf("%+v: %d requests fail", tc, failures)
		}
		if store.traced != (tc.asked && !tc.denied) {
			t.Errorf("%+v: the store is asked for a trace: %v", tc, store.traced)
		}
		steps := root.Node().Children
		if !tc.asked {
			continue
		}
		if len(steps) != 3 {
			t.Fatalf("%+v: %d steps", tc, len(steps))
		}
		for i, name := range []string{"search", "labelNames", "reduce"} {
			step := steps[i]
			if !strings.HasPrefix(step.Message, name+" at storage node "+addr+": ") || !strings.HasSuffix(step.Message, " bytes received") {
				t.Errorf("%+v: step %q", tc, step.Message)
			}
			if tc.denied {
				if len(step.Children) != 0 {
					t.Errorf("%+v: the node tells %+v", tc, step.Children)
				}
				continue
			}
			if len(step.Children) != 1 || step.Children[0].Message != name+" at vmstorage" || step.Children[0].Children[1].Message != "look: found" {
				t.Errorf("%+v: the node tells %+v", tc, step.Children)
			}
		}
	}
}

// TestTraceOfFailure: the step of a request that fails says why.
func TestTraceOfFailure(t *testing.T) {
	store := &tracingStore{fake: fake{err: errkind.New(errkind.Unprocessable, "too much")}}
	n := inMemory()
	_, addr := serve(t, n, ServerOptions{Searcher: store, Reducer: store})
	c := dial(t, n, addr)
	root := trace.New(time.Now, time.Now(), "query")
	if failures := askAll(root.Within(t.Context()), c, &store.fake); failures != 2 {
		t.Fatalf("%d requests fail", failures)
	}
	for _, step := range root.Node().Children[:2] {
		if !strings.Contains(step.Message, "too much") {
			t.Errorf("step %q", step.Message)
		}
	}
}

func FuzzParseEnd(f *testing.F) {
	f.Add(appendCoverage(appendTrace(nil, goldenTrace()), goldenCoverage()))
	f.Fuzz(func(t *testing.T, data []byte) {
		step := trace.New(time.Now, time.Now(), "")
		if _, err := parseEnd(data, step); err != nil {
			if errkind.Of(err) != errkind.Corrupt {
				t.Fatalf("error %v is of kind %s", err, errkind.Of(err))
			}
			return
		}
		children := step.Node().Children
		if len(children) == 0 {
			return
		}
		again := trace.New(time.Now, time.Now(), "")
		if _, err := parseEnd(appendTrace(nil, &children[0]), again); err != nil {
			t.Fatalf("%+v cannot be read again: %s", children[0], err)
		}
	})
}
