package storageflags

import (
	"flag"
	"fmt"
	"io"
	"strings"
	"testing"

	"vmcluster/lib/storage"
)

func parse(args ...string) (storage.Config, error) {
	var c storage.Config
	fs := flag.NewFlagSet("", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	Register(fs, &c)
	err := fs.Parse(args)
	return c, err
}

func TestRules(t *testing.T) {
	c, err := parse(`-downsampling.period=30d:5m,{env=~"a,b|c}d",x!="\""}:1d:1m, 180d:1h`, `-downsampling.period=up{job='x'}:1h:30s`,
		`-retentionFilter={env="dev" or vm_account_id="3"}:3d`, `-retentionFilter=m{a="b"}:2w,{c="d"}:1y`)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range c.DownsamplingRules {
		got = append(got, fmt.Sprint(r.String(), " ", r.Filters))
	}
	for _, r := range c.RetentionRules {
		got = append(got, fmt.Sprint(r.Keep, " ", r.Filters))
	}
	want := []string{
		`720h0m0s:5m0s []`, `{env=~"a,b|c}d",x!="\""}:24h0m0s:1m0s [[env=~"a,b|c}d" x!="\""]]`, `4320h0m0s:1h0m0s []`, `up{job='x'}:1h0m0s:30s [[__name__="up" job="x"]]`,
		`72h0m0s [[env="dev"] [vm_account_id="3"]]`, `336h0m0s [[__name__="m" a="b"]]`, `8760h0m0s [[c="d"]]`,
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestBadRules(t *testing.T) {
	for arg, want := range map[string]string{
		`-downsampling.period=30d`:                "want [filter:]offset:interval",
		`-downsampling.period=x:5m`:               "offset",
		`-downsampling.period=30d:y`:              "interval",
		`-downsampling.period={a="b"}30d:5m`:      "a colon must follow",
		`-downsampling.period={a="b:30d:5m`:       "not closed",
		`-downsampling.period={a=b}:30d:5m`:       "filter",
		`-retentionFilter=3d`:                     "the filter is missing",
		`-retentionFilter={a="b"}:soon`:           "soon",
		`-retentionFilter=sum({a="b"}):3d`:        "filter",
		`-retentionFilter={a="b"}:3d,{c="d"} :3d`: "a colon must follow",
	} {
		if _, err := parse(arg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v; want an error with %q", arg, err, want)
		}
	}
}
