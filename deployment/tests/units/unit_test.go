package units

import (
	"slices"
	"testing"
)

func TestInPlace(t *testing.T) {
	u := &Unit{Env: map[string]string{"POD": "a-0"}, Mounts: map[string]string{"/data": "/tmp/1", "/data/sub": "/tmp/2", "/etc/x.yml": "/tmp/x.yml"}}
	hosts := map[string]string{"a-0.a:8400": "127.0.0.1:1", "a:80": "127.0.0.1:2", "10.0.0.1:9111": "127.0.0.7:3"}
	for text, want := range map[string]string{
		"--node=a-0.a:8400":                     "--node=127.0.0.1:1",
		"--node=a-0.a:8400,b-0.a:8400":          "--node=127.0.0.1:1,b-0.a:8400",
		"--node=a-0.a.:8400":                    "--node=127.0.0.1:1",
		"--node=a-0.a:84001":                    "--node=a-0.a:84001",
		"http://a:80/data":                      "http://127.0.0.1:2/data",
		"targets: ['10.0.0.1:9111','ba:80']":    "targets: ['127.0.0.7:3','ba:80']",
		"--path=/data":                          "--path=/tmp/1",
		"--path=/data/sub/x":                    "--path=/tmp/2/x",
		"--path=/database":                      "--path=/database",
		"--path=/var/data":                      "--path=/var/data",
		"--dst=fs:///data/$(POD)":               "--dst=fs:///tmp/1/a-0",
		"--config=/etc/x.yml":                   "--config=/tmp/x.yml",
		"rule_files: [/data/*.yml, /data/sub/]": "rule_files: [/tmp/1/*.yml, /tmp/2/]",
		"$(OTHER)":                              "$(OTHER)",
	} {
		if got := u.inPlace(u.expand(text), hosts); got != want {
			t.Errorf("%q becomes %q; want %q", text, got, want)
		}
	}
}

func TestListenAt(t *testing.T) {
	ours := &Unit{Image: "vmcluster/vmselect:v1", Ports: []int{8481}, Args: []string{"--envflag.enable=true", "-envflag.prefix=VM_"}}
	args, env, err := ours.listenAt(map[int]string{8481: "127.0.0.1:1"})
	if err != nil || !slices.Equal(args, ours.Args) || !slices.Equal(env, []string{"VM_httpListenAddr=127.0.0.1:1"}) {
		t.Errorf("arguments %q, variables %q, error %v", args, env, err)
	}
	if _, _, err := ours.listenAt(map[int]string{8482: "127.0.0.1:1"}); err == nil {
		t.Error("a port that vmselect does not have is moved")
	}
	ours.Args = []string{"-a", "-httpListenAddr=:8481"}
	args, env, err = ours.listenAt(map[int]string{8481: "127.0.0.1:1"})
	if err != nil || !slices.Equal(args, []string{"-a", "--httpListenAddr=127.0.0.1:1"}) || len(env) > 0 {
		t.Errorf("arguments %q, variables %q, error %v", args, env, err)
	}
	ours.Args = nil
	if _, _, err := ours.listenAt(map[int]string{8481: "127.0.0.1:1"}); err == nil {
		t.Error("variables are given to a process which does not read them")
	}
	theirs := &Unit{Image: "docker.io/prom/prometheus:v2", Ports: []int{9090}}
	if args, _, err := theirs.listenAt(map[int]string{9090: "127.0.0.1:1"}); err != nil || !slices.Equal(args, []string{"--web.listen-address=127.0.0.1:1"}) {
		t.Errorf("arguments %q, error %v", args, err)
	}
}
