package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	cancel()
	os.Exit(status)
}

// run runs a command and returns the exit status: 1 when it fails, 2 when it was called wrongly.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		usage(stderr)
		return 2
	}
	for _, c := range commands() {
		if c.name == args[0] {
			return runCommand(ctx, c, args[1:], &environment{stdout: stdout, stderr: stderr})
		}
	}
	if name := args[0]; name != "help" && name != "-help" && name != "--help" && name != "-h" {
		say(stderr, "vmbench: there is no command %q\n", name)
		usage(stderr)
		return 2
	}
	usage(stdout)
	return 0
}

func usage(w io.Writer) {
	say(w, "usage: vmbench COMMAND [flags]; vmbench COMMAND -help lists its flags\n")
	for _, c := range commands() {
		say(w, "  %-8s %s\n", c.name, c.help)
	}
}

func runCommand(ctx context.Context, c command, args []string, env *environment) int {
	env.flags = flag.NewFlagSet("vmbench "+c.name, flag.ContinueOnError)
	env.flags.SetOutput(env.stderr)
	do := c.setup(env)
	if err := env.flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return 2
	}
	if env.flags.NArg() > 0 && !c.takesArgs {
		say(env.stderr, "vmbench %s: unexpected argument %q: flags are written -name=value\n", c.name, env.flags.Arg(0))
		return 2
	}
	if err := do(ctx); err != nil {
		say(env.stderr, "vmbench %s: %s\n", c.name, err)
		return 1
	}
	return 0
}

// say writes a message to a terminal; when that fails there is nobody to tell.
func say(w io.Writer, format string, args ...any) { _, _ = fmt.Fprintf(w, format, args...) }
