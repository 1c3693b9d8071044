package vector

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"vmcluster/lib/errkind"
)

func on(op string, labels ...string) BinaryOptions {
	return BinaryOptions{Op: op, Match: MatchOn, MatchLabels: labels}
}

func TestOneToOne(t *testing.T) {
	five := 5.0
	left := func() []*Series { return []*Series{ser("l{k=0}", 3, nan), ser("l{k=2}", 7, 7), ser("l{k=3}", 9, 9)} }
	right := func() []*Series {
		return []*Series{ser("r{k=2,more=a}", 3, 8), ser("r{k=3,more=b}", 9, nan), ser("r{k=4,more=c}", 1, 1)}
	}
	for _, tc := range []struct {
		o    BinaryOptions
		want []string
	}{
		{on("+", "k"), []string{"{k=2} 10 15", "{k=3} 18 NaN"}},
		{BinaryOptions{Op: "+"}, []string{""}},
		{BinaryOptions{Op: "-", Match: MatchIgnoring, MatchLabels: []string{"more"}}, []string{"{k=2} 4 -1", "{k=3} 0 NaN"}},
		{on(">", "k"), []string{"{k=2} 7 NaN", "{k=3} NaN NaN"}},
		{BinaryOptions{Op: ">=", Match: MatchIgnoring, MatchLabels: []string{"more"}}, []string{"l{k=2} 7 NaN", "l{k=3} 9 NaN"}},
		{BinaryOptions{Op: "!=", Bool: true, Match: MatchOn, MatchLabels: []string{"k"}}, []string{"{k=2} 1 1", "{k=3} 0 1"}},
		{BinaryOptions{Op: "+", Match: MatchOn, MatchLabels: []string{"k"}, KeepMetricNames: true}, []string{"l{k=2} 10 15", "l{k=3} 18 NaN"}},
		{BinaryOptions{Op: "+", Match: MatchOn, MatchLabels: []string{"k"}, FillLeft: &five, FillRight: &five},
			[]string{"{k=0} 8 NaN", "{k=2} 10 15", "{k=3} 18 14", "{k=4} 6 6"}},
		{BinaryOptions{Op: "+", Match: MatchOn, MatchLabels: []string{"k"}, FillRight: &five}, []string{"{k=0} 8 NaN", "{k=2} 10 15", "{k=3} 18 14"}},
		{BinaryOptions{Op: "<", RightFiltered: true, Bool: true, Match: MatchOn, MatchLabels: []string{"k"}}, []string{"{k=2} 0 1", "{k=3} 0 NaN"}},
		{on("and", "k"), []string{"l{k=2} 7 7", "l{k=3} 9 NaN"}},
		{on("unless", "k"), []string{"l{k=0} 3 NaN", "l{k=3} NaN 9"}},
		{on("if", "k"), []string{"l{k=2} 7 7", "l{k=3} 9 NaN"}},
		{on("default", "k"), []string{"l{k=0} 3 NaN", "l{k=2} 7 7", "l{k=3} 9 9"}},
		{on("or", "k"), []string{"l{k=0} 3 NaN", "l{k=2} 7 7", "l{k=3} 9 9", "r{k=2,more=a} NaN NaN", "r{k=3,more=b} NaN NaN", "r{k=4,more=c} 1 1"}},
	} {
		got, err := Binary(tc.o, left(), right())
		checkSeries(t, fmt.Sprintf("%+v", tc.o), got, err, tc.want...)
	}
}

func TestScalarSides(t *testing.T) {
	m := func() []*Series { return []*Series{ser("m{a=1}", 2, nan), ser("m{a=2}", 4, 5)} }
	three := func() []*Series { return []*Series{Scalar(constant(3, 2))} }
	for _, tc := range []struct {
		o           BinaryOptions
		left, right []*Series
		want        []string
	}{
		{BinaryOptions{Op: "-"}, m(), three(), []string{"{a=1} -1 NaN", "{a=2} 1 2"}},
		{BinaryOptions{Op: "-"}, three(), m(), []string{"{a=1} 1 NaN", "{a=2} -1 -2"}},
		{BinaryOptions{Op: "-", KeepMetricNames: true}, three(), m(), []string{"m{a=1} 1 NaN", "m{a=2} -1 -2"}},
		{BinaryOptions{Op: "<"}, three(), m(), []string{"m{a=1} NaN NaN", "m{a=2} 3 3"}},
		{BinaryOptions{Op: "<", SwapSides: true}, three(), m(), []string{"m{a=1} NaN NaN", "m{a=2} 4 5"}},
		{BinaryOptions{Op: "!="}, m(), []*Series{Scalar(nans(2))}, []string{"m{a=1} 2 NaN", "m{a=2} 4 5"}},
		{BinaryOptions{Op: "=="}, m(), []*Series{Scalar(nans(2))}, []string{"m{a=1} NaN NaN", "m{a=2} NaN NaN"}},
		{BinaryOptions{Op: "+"}, m(), []*Series{Scalar(nans(2))}, []string{""}},
		{BinaryOptions{Op: "+"}, m(), nil, []string{""}},
		{BinaryOptions{Op: "if"}, m(), three(), []string{"m{a=1} 2 NaN", "m{a=2} 4 5"}},
		{BinaryOptions{Op: "and"}, m(), three(), []string{""}},
		{BinaryOptions{Op: "ifnot"}, m(), three(), []string{""}},
		{BinaryOptions{Op: "default"}, m(), three(), []string{"m{a=1} 2 3", "m{a=2} 4 5"}},
		{BinaryOptions{Op: "default"}, nil, m(), []string{"m{a=1} 2 NaN", "m{a=2} 4 5"}},
		{BinaryOptions{Op: "default"}, three(), m(), []string{"{} 3 3"}},
		{BinaryOptions{Op: "or"}, m(), three(), []string{"m{a=1} 2 NaN", "m{a=2} 4 5", "{} 3 3"}},
		{on("or"), m(), three(), []string{"m{a=1} 2 NaN", "m{a=2} 4 5", "{} NaN NaN"}},
		{BinaryOptions{Op: "or"}, []*Series{Scalar([]float64{nan, 1})}, three(), []string{"{} 3 1"}},
		{BinaryOptions{Op: "==", RightIsList: true}, m(), []*Series{Scalar(constant(2, 2)), Scalar(constant(5, 2))}, []string{"m{a=1} 2 NaN", "m{a=2} NaN 5"}},
		{BinaryOptions{Op: "!=", RightIsList: true}, m(), []*Series{Scalar(constant(2, 2)), Scalar(constant(5, 2))}, []string{"m{a=1} NaN NaN", "m{a=2} 4 NaN"}},
		{BinaryOptions{Op: "%"}, []*Series{Scalar([]float64{-5, 5.5})}, three(), []string{"{} -2 2.5"}},
		{BinaryOptions{Op: "^"}, []*Series{Scalar([]float64{nan, 2})}, []*Series{Scalar([]float64{0, 3})}, []string{"{} NaN 8"}},
	} {
		got, err := Binary(tc.o, tc.left, tc.right)
		checkSeries(t, fmt.Sprintf("%+v", tc.o), got, err, tc.want...)
	}
}

func TestJoins(t *testing.T) {
	many := func() []*Series { return []*Series{ser("m{n=1,x=a}", 1), ser("m{n=1,x=b}", 2), ser("m{n=2,x=c}", 3)} }
	one := func() []*Series { return []*Series{ser("i{n=1,v=v1}", 10), ser("i{n=2,v=v2,x=z}", 20)} }
	two := 2.0
	join := func(labels []string, prefix string) BinaryOptions {
		o := on("*", "n")
		o.Join, o.JoinLabels, o.JoinPrefix = JoinLeft, labels, prefix
		return o
	}
	got, err := Binary(join([]string{"v"}, ""), many(), one())
	checkSeries(t, "group_left(v)", got, err, "{n=1,v=v1,x=a} 10", "{n=1,v=v1,x=b} 20", "{n=2,v=v2,x=c} 60")
	got, err = Binary(join([]string{"x", "n"}, ""), many()[1:], one())
	checkSeries(t, "absent labels are removed", got, err, "{n=1} 20", "{n=2,x=z} 60")
	got, err = Binary(join([]string{"*"}, "p_"), many()[2:], one())
	checkSeries(t, "all with a prefix", got, err, "{n=2,p_v=v2,p_x=z,x=c} 60")
	o := join([]string{"v"}, "")
	o.Join = JoinRight
	got, err = Binary(o, one(), many()[:1])
	checkSeries(t, "group_right", got, err, "{n=1,v=v1,x=a} 10")
	o = join([]string{"v"}, "")
	o.FillRight = &two
	got, err = Binary(o, []*Series{ser("m{n=7,v=old}", 4)}, nil)
	checkSeries(t, "filled", got, err, "{n=7} 8")
	got, err = Binary(join([]string{"v"}, ""), many()[:1], []*Series{ser("i{n=1,v=v1}", 10), ser("i{n=1,v=v9}", 90)})
	checkSeries(t, "several partners with different labels", got, err, "{n=1,v=v1,x=a} 10", "{n=1,v=v9,x=a} 90")
	_, err = Binary(join(nil, ""), many()[:1], []*Series{ser("i{n=1,v=v1}", 10), ser("i{n=1,v=v9}", 90)})
	if errkind.Of(err) != errkind.Unprocessable || !strings.Contains(err.Error(), `duplicate time series on the right side of * on(n) group_left(): i{n="1",v="v1"} and i{n="1",v="v9"}`) {
		t.Errorf("several partners with equal labels: %v", err)
	}
}

func TestSeriesOfOneKey(t *testing.T) {
	right := []*Series{ser("r{}", 1, 1, 1, 1)}
	left := func(second ...float64) []*Series {
		return []*Series{ser("l{a=1}", 1, 2, nan, nan), ser("l{a=2}", second...)}
	}
	got, err := Binary(on("+"), left(nan, 7, 8, nan), right)
	checkSeries(t, "renamed series are merged, the later wins", got, err, "{} 2 8 9 NaN")
	if _, err = Binary(on("+"), []*Series{ser("l{a=1}", 1), ser("l{a=2}", 2)}, []*Series{ser("r{}", 1)}); errkind.Of(err) != errkind.Unprocessable ||
		!strings.Contains(err.Error(), `duplicate time series on the left side of + on(): l{a="1"} and l{a="2"}`) {
		t.Errorf("instant: %v", err)
	}
	got, err = Binary(on("<"), []*Series{ser("l{a=1}", nan), ser("l{a=2}", 2)}, []*Series{ser("r{}", 3)})
	checkSeries(t, "series without points are no duplicates", got, err, "{} 2")
	three := []*Series{ser("l{a=1}", 1, 2, 3, nan), ser("l{a=2}", 1, 2, 3, 4)}
	if _, err = Binary(on("+"), three, right); errkind.Of(err) != errkind.Unprocessable {
		t.Errorf("three common points: %v", err)
	}
}

func TestBinaryDoesNotDependOnOrder(t *testing.T) {
	for _, op := range []string{"+", "==", "and", "unless", "default", "or"} {
		sides := func(reverse bool) (left, right []*Series) {
			for i := range 6 {
				left = append(left, ser(fmt.Sprintf("l{k=%d}", i), float64(i), nan))
				right = append(right, ser(fmt.Sprintf("r{k=%d}", i*2), float64(i*2), 1))
			}
			if reverse {
				slices.Reverse(left)
				slices.Reverse(right)
			}
			return left, right
		}
		left, right := sides(false)
		a, errA := Binary(on(op, "k"), left, right)
		left, right = sides(true)
		b, errB := Binary(on(op, "k"), left, right)
		Sort(a)
		Sort(b)
		if errA != nil || errB != nil || render(a) != render(b) {
			t.Errorf("%s: %s (%v) and %s (%v)", op, render(a), errA, render(b), errB)
		}
	}
}

func BenchmarkBinaryOneToOne(b *testing.B) {
	var left, right []*Series
	for i := range 10_000 {
		left = append(left, ser(fmt.Sprintf("l{host=h%d,job=j}", i), constant(float64(i), 60)...))
		right = append(right, ser(fmt.Sprintf("r{host=h%d,job=j}", i), constant(float64(i), 60)...))
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Binary(BinaryOptions{Op: "/"}, slices.Clone(left), slices.Clone(right)); err != nil {
			b.Fatal(err)
		}
	}
}
