package apptest

import (
	"net/http"
	"slices"
	"strings"
	"testing"
)

// guarded is a path with a key of its own.
type guarded struct {
	flag, method, path string
	// needsPassword: with -httpAuth.*, the password is needed besides the key; at other paths the key stands for it.
	needsPassword bool
}

// guardedPaths are those of a binary, in an order in which none spoils the next.
func guardedPaths(binary string) []guarded {
	list := []guarded{{"metricsAuthKey", "GET", "/metrics", false}, {"flagsAuthKey", "GET", "/flags", false}, {"pprofAuthKey", "GET", "/debug/pprof/cmdline", false}}
	housekeeping := []guarded{
		{"forceFlushAuthKey", "GET", "/internal/force_flush", false}, {"forceMergeAuthKey", "GET", "/internal/force_merge", false}, {"logNewSeriesAuthKey", "GET", "/internal/log_new_series", false},
		{"snapshotAuthKey", "GET", "/snapshot/create", false}, {"snapshotAuthKey", "GET", "/snapshot/list", false}, {"snapshotAuthKey", "GET", "/snapshot/delete", false}, {"snapshotAuthKey", "GET", "/snapshot/delete_all", false},
	}
	prefix, admin, tags := "", "", ""
	switch binary {
	case "vmstorage":
		return append(list, housekeeping...)
	case "vminsert":
		return list
	case "vmselect":
		prefix, admin, tags = "/delete/0/prometheus", "/admin", "/select/0/graphite"
	default:
		list = append(list, housekeeping...)
	}
	return append(list,
		guarded{"deleteAuthKey", "POST", prefix + "/api/v1/admin/tsdb/delete_series", true},
		guarded{"deleteAuthKey", "POST", tags + "/tags/delSeries", true},
		guarded{"metricNamesStatsResetAuthKey", "GET", admin + "/api/v1/admin/status/metric_names_stats/reset", true},
		guarded{"search.resetCacheAuthKey", "GET", "/internal/resetRollupResultCache", true},
	)
}

// TestKeys asks all paths with a key of all binaries: without it, with wrong ones, with the right one; with and without password.
func TestKeys(t *testing.T) {
	t.Parallel()
	for _, c := range components() {
		for _, password := range []bool{false, true} {
			name := c.binary
			if password {
				name += " with password"
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				testKeys(t, c, password)
			})
		}
	}
}

func testKeys(t *testing.T, c component, password bool) {
	args, seen := c.args(t), map[string]bool{}
	for _, g := range guardedPaths(c.binary) {
		if !seen[g.flag] {
			args = append(args, "-"+g.flag+"=key-"+g.flag)
		}
		seen[g.flag] = true
	}
	if password {
		args = append(args, "-httpAuth.username=me", "-httpAuth.password=word")
	}
	p := start(t, spec{binary: c.binary, args: args})
	root := "http://" + p.httpAddr()
	login := []string{"Authorization", "Basic bWU6d29yZA=="}
	for _, path := range []string{"/health", "/-/healthy", "/-/ready", "/ping"} {
		if a := get(t, root+path); a.status/100 != 2 {
			t.Errorf("%s is answered %s", path, a)
		}
	}
	for _, g := range guardedPaths(c.binary) {
		right := "key-" + g.flag
		for _, key := range []string{"", "wrong", right + "x", right[:len(right)-1], "key-other", right} {
			target := root + g.path + "?authKey=" + key
			for _, headers := range [][]string{nil, login, {"Authorization", "Basic bWU6d29ybQ=="}} {
				a := request(t, g.method, target, nil, headers...)
				let := key == right && (!password || !g.needsPassword || slices.Equal(headers, login))
				if let == (a.status == http.StatusUnauthorized) {
					t.Errorf("%s %s with headers %q is answered %s", g.method, target, headers, a)
				}
				if strings.Contains(a.body, right) && g.flag != "pprofAuthKey" || strings.Contains(a.body, "word ") {
					t.Errorf("%s shows a secret: %s", target, a)
				}
			}
		}
	}
	if !password {
		return
	}
	for _, path := range []string{"/", "/nosuch", "/insert/0/prometheus/api/v1/write", "/api/v1/write", "/select/0/prometheus/api/v1/query?query=1", "/api/v1/query?query=1", "/admin/tenants"} {
		a := request(t, http.MethodGet, root+path, nil).want(t, http.StatusUnauthorized)
		if !strings.HasPrefix(a.header.Get("WWW-Authenticate"), "Basic ") {
			t.Errorf("%s does not ask for a password: %v", path, a.header)
		}
		if a := request(t, http.MethodGet, root+path, nil, login...); a.status == http.StatusUnauthorized {
			t.Errorf("%s with password is answered %s", path, a)
		}
	}
}
