package tests

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"vmcluster/deployment/tests/objects"
	"vmcluster/deployment/tests/units"
)

// composeFile has the members of the Compose specification that are used; others are mistakes.
type composeFile struct {
	Name     string                    `json:"name"`
	Services map[string]composeService `json:"services"`
	Volumes  map[string]struct{}       `json:"volumes"`
}

type composeService struct {
	Image string `json:"image"`
	Build *struct {
		Context    string `json:"context"`
		Dockerfile string `json:"dockerfile"`
	} `json:"build"`
	Command         []string          `json:"command"`
	Environment     map[string]string `json:"environment"`
	User            string            `json:"user"`
	Restart         string            `json:"restart"`
	ReadOnly        bool              `json:"read_only"`
	CapDrop         []string          `json:"cap_drop"`
	SecurityOpt     []string          `json:"security_opt"`
	Tmpfs           []string          `json:"tmpfs"`
	StopGracePeriod string            `json:"stop_grace_period"`
	Volumes         []string          `json:"volumes"`
	Ports           []string          `json:"ports"`
	DependsOn       []string          `json:"depends_on"`
}

func compose(t *testing.T, path string) composeFile {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text = regexp.MustCompile(`\$\{[A-Z_]+:-([^}]*)\}`).ReplaceAll(text, []byte("$1")) // of variables that are not set
	asJSON, err := yaml.YAMLToJSON(text)
	if err != nil {
		t.Fatal(err)
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(asJSON, &members); err != nil {
		t.Fatal(err)
	}
	for name := range members {
		if strings.HasPrefix(name, "x-") { // for the author's use, says the specification
			delete(members, name)
		}
	}
	if asJSON, err = json.Marshal(members); err != nil {
		t.Fatal(err)
	}
	strict := json.NewDecoder(bytes.NewReader(asJSON))
	strict.DisallowUnknownFields()
	var file composeFile
	if err := strict.Decode(&file); err != nil {
		t.Fatalf("%s: %s", path, err)
	}
	return file
}

// TestCompose checks what a compose file refers to, and that its containers have no privileges.
func TestCompose(t *testing.T) {
	for _, name := range []string{"compose.yml", "compose-single.yml"} {
		t.Run(name, func(t *testing.T) {
			file := compose(t, "../docker/"+name)
			published, known := map[string]bool{}, knownFlags(t)
			for service, s := range file.Services {
				if !s.ReadOnly || !slices.Equal(s.CapDrop, []string{"ALL"}) || !slices.Equal(s.SecurityOpt, []string{"no-new-privileges:true"}) || s.Restart != "unless-stopped" {
					t.Errorf("%s may do more than the others, or does not come again", service)
				}
				if !regexp.MustCompile(`^(docker\.io/.*|vmcluster/[a-z-]+):v?\d+\.\d+\.\d+(-alpine)?$`).MatchString(s.Image) {
					t.Errorf("%s: image %q has no exact version", service, s.Image)
				}
				checkComposeBuild(t, service, s)
				for _, volume := range s.Volumes {
					checkComposeVolume(t, service, file, volume)
				}
				for _, port := range s.Ports {
					if published[port] {
						t.Errorf("port %s is published twice", port)
					}
					published[port] = true
				}
				for _, other := range s.DependsOn {
					if _, ok := file.Services[other]; !ok {
						t.Errorf("%s depends on %s, which does not exist", service, other)
					}
				}
				flags := known(objects.Binary(s.Image))
				for _, arg := range s.Command {
					if flag, _, _ := strings.Cut(strings.TrimLeft(arg, "-"), "="); flags != nil && !flags[flag] {
						t.Errorf("%s has no flag -%s", service, flag)
					}
				}
			}
		})
	}
}

func checkComposeBuild(t *testing.T, service string, s composeService) {
	t.Helper()
	if !strings.HasPrefix(s.Image, "vmcluster/") {
		if s.Build != nil {
			t.Errorf("%s is not ours, but is built", service)
		}
		return
	}
	want := "deployment/docker/" + objects.Binary(s.Image) + "/Containerfile"
	if s.Build == nil || s.Build.Context != "../.." || s.Build.Dockerfile != want {
		t.Errorf("%s is built by %v; want %s", service, s.Build, want)
	}
	if grace, err := time.ParseDuration(s.StopGracePeriod); err != nil || grace < 30*time.Second {
		t.Errorf("%s has %q to stop, error %v; want 30s at least", service, s.StopGracePeriod, err)
	}
}

func checkComposeVolume(t *testing.T, service string, file composeFile, volume string) {
	t.Helper()
	source, place, _ := strings.Cut(volume, ":")
	if strings.HasPrefix(source, ".") {
		if _, err := os.Stat(filepath.Join("../docker", source)); err != nil {
			t.Errorf("%s: %s", service, err)
		}
		if !strings.HasSuffix(place, ":ro") {
			t.Errorf("%s may write to %s", service, source)
		}
		return
	}
	if _, ok := file.Volumes[source]; !ok {
		t.Errorf("%s: there is no volume %s", service, source)
	}
}

// TestComposeRuns runs the services of the compose files: all of ours become healthy as their images ask, what is written can
// be read, and they end in time.
func TestComposeRuns(t *testing.T) {
	for name, c := range map[string]struct{ write, read, prefix, query string }{
		"compose.yml":        {"vminsert-2:8480", "vmselect-2:8481", "/insert/0/prometheus", `min(up{job=~"vm.+"} and on() count(up{job=~"vm.+"}) == 6)`},
		"compose-single.yml": {"victoria-metrics:8428", "victoria-metrics:8428", "", `up{job="victoria-metrics"}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := units.NewWorld(t, binaries)
			w.Start(composeUnits(t, w, compose(t, "../docker/"+name)))
			read := "http://" + w.Host(c.read)
			if c.prefix != "" {
				read += "/select/0/prometheus"
			}
			writeAndRead(t, "http://"+w.Host(c.write)+c.prefix, read)
			if _, err := exec.LookPath("prometheus"); err == nil {
				find(t, read, c.query, 1)
			}
			w.Stop()
		})
	}
}

// composeUnits makes units of services, those first on which others depend. Nothing is before the processes: the first
// vminsert and vmselect stand for the proxy.
func composeUnits(t *testing.T, w *units.World, file composeFile) []*units.Unit {
	t.Helper()
	var names []string
	var add func(service string)
	add = func(service string) {
		for _, other := range file.Services[service].DependsOn {
			add(other)
		}
		if !slices.Contains(names, service) {
			names = append(names, service)
		}
	}
	volumes := map[string]string{}
	for name := range file.Volumes {
		volumes[name] = t.TempDir()
	}
	for service := range file.Services {
		add(service)
	}
	var all []*units.Unit
	for _, service := range names {
		all = append(all, composeUnit(t, w, service, file.Services[service], volumes))
	}
	if _, ok := file.Services["proxy"]; ok {
		w.Name("proxy:8480", w.Addr("vminsert-1", 8480))
		w.Name("proxy:8481", w.Addr("vmselect-1", 8481))
	}
	return all
}

func composeUnit(t *testing.T, w *units.World, service string, s composeService, volumes map[string]string) *units.Unit {
	t.Helper()
	u := &units.Unit{Name: service, Pod: service, Image: s.Image, Args: s.Command, Env: s.Environment, Mounts: map[string]string{}, Grace: 10 * time.Second}
	if s.StopGracePeriod != "" {
		grace, err := time.ParseDuration(s.StopGracePeriod)
		if err != nil {
			t.Fatal(err)
		}
		u.Grace = grace
	}
	component := objects.Binary(s.Image)
	u.Ready = units.Probe{Scheme: "http", Path: "/health"} // checkImage knows that it is what the health check asks
	if port := map[string]int{"prometheus": 9090, "alertmanager": 9093}[component]; port != 0 {
		u.Ports, u.Ready.Port, u.Ready.Path = []int{port}, port, "/-/ready"
		w.Name(fmt.Sprintf("%s:%d", service, port), w.Addr(service, port))
	}
	for text := range strings.FieldsSeq(ports(component)) {
		port, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		u.Ports = append(u.Ports, port)
		u.Ready.Port = u.Ports[0]
		w.Name(fmt.Sprintf("%s:%d", service, port), w.Addr(service, port))
	}
	for _, volume := range s.Volumes {
		source, place, _ := strings.Cut(strings.TrimSuffix(volume, ":ro"), ":")
		dir := volumes[source]
		if strings.HasPrefix(source, ".") {
			dir = copied(t, filepath.Join("../docker", source))
		}
		u.Mounts[place] = dir
	}
	return u
}

// copied returns a copy of a file or directory that a test may change.
func copied(t *testing.T, path string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), filepath.Base(path))
	copyTree(t, path, to, func(string) bool { return false })
	return to
}
