package trace

import (
	"context"
	"reflect"
	"sync"
	"testing"
	"time"
)

func TestTree(t *testing.T) {
	clock := time.Unix(1000, 0)
	now := func() time.Time {
		clock = clock.Add(time.Second) // each look at the clock takes a second
		return clock
	}
	root := New(now, clock, "query")
	ctx := root.Within(context.Background())
	search := From(ctx).Begin("search %s", "m")
	inner := From(search.Within(ctx)).Begin("index")
	inner.End(": %d series", 3)
	search.Attach(Node{Message: "at the node", Duration: time.Minute})
	search.End("")
	search.End(" again")
	From(ctx).Begin("still running")
	want := Node{Message: "query", Duration: 6 * time.Second, Children: []Node{
		{Message: "search m again", Duration: 3 * time.Second, Children: []Node{
			{Message: "index: 3 series", Duration: time.Second},
			{Message: "at the node", Duration: time.Minute},
		}},
		{Message: "still running", Duration: 2 * time.Second},
	}}
	if got := root.Node(); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}

// TestNothing: who is not asked for a trace notes nothing, and allocates nothing.
func TestNothing(t *testing.T) {
	ctx := context.Background()
	allocated := testing.AllocsPerRun(100, func() {
		step := From(ctx).Begin("search")
		if step.Within(ctx) != ctx || step != nil {
			t.Fatal("a step nobody asked for")
		}
		step.Attach(Node{})
		step.End("")
	})
	if n := From(ctx).Node(); allocated != 0 || !reflect.DeepEqual(n, Node{}) {
		t.Errorf("%v allocations, %+v", allocated, n)
	}
}

func TestConcurrentAndBounded(t *testing.T) {
	root := New(time.Now, time.Now(), "root")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range MaxChildren {
				root.Begin("step").End(" ended")
				root.Attach(Node{})
				if i%100 == 0 {
					root.Node()
				}
			}
		})
	}
	wg.Wait()
	if n := len(root.Node().Children); n != 2*MaxChildren {
		t.Errorf("%d steps; want %d", n, 2*MaxChildren)
	}
}
