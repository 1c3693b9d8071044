package service

import (
	"context"
	"fmt"
	"strings"
)

// Command is something that a binary does, and ends, instead of running its component. It is called by words among the flags.
type Command struct {
	Name string   // one or two words, such as "backup lock"
	Args []string // what its arguments are, for -help
	Help string
	Run  func(ctx context.Context, env *Env, args []string) error
}

// match returns the arguments of the command if words call it.
func (c *Command) match(words []string) ([]string, bool) {
	name := strings.Fields(c.Name)
	if len(words) != len(name)+len(c.Args) || strings.Join(words[:len(name)], " ") != c.Name {
		return nil, false
	}
	return words[len(name):], true
}

func (c *Command) usage() string {
	line := c.Name
	for _, a := range c.Args {
		line += " <" + a + ">"
	}
	return line
}

// find returns the command which words call, with its arguments.
func (m *runner) find(words []string) (*Command, []string, error) {
	var known []string
	for i := range m.commands {
		if args, ok := m.commands[i].match(words); ok {
			return &m.commands[i], args, nil
		}
		known = append(known, m.commands[i].usage())
	}
	if len(known) == 0 {
		return nil, nil, fmt.Errorf("cannot parse command line: unexpected argument %q; values of flags are written as -flag=value", words[0])
	}
	return nil, nil, fmt.Errorf("cannot parse command line: there is no command %q; there are: %s", strings.Join(words, " "), strings.Join(known, ", "))
}

// call runs a command until it ends; a signal cancels it.
func (m *runner) call(env *Env, c *Command, args []string) int {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = m.wait(env.aborts)
		cancel()
	}()
	err := c.Run(ctx, env, args)
	env.Abort(taskEnded{})
	<-done
	if err != nil {
		m.say(m.stderr, err.Error())
		return 1
	}
	return 0
}
