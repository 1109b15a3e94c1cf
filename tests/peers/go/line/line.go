// Package line is the command line that the peers have in common.
//
//	PROGRAM ENDPOINT register SERVICE ADDR TTL
//	PROGRAM ENDPOINT discover SERVICE
//
// A program that registers prints "registered", then "updated" after each line "update TEXT" on its input, and
// "left" after the line "leave". At the end of its input it ends without leaving, as after a crash. A program that
// discovers prints "list ADDR ADDR .." whenever the list has changed.
package line

import (
	"bufio"
	"fmt"
	"os"
	"sort"
	"strconv"
	"strings"
	"time"
)

// Registration is an instance that is registered.
type Registration interface {
	// Update changes a property that the format can hold.
	Update(text string) error
	Leave() error
}

// Peer is a library that registers and discovers.
type Peer struct {
	// Register returns when the key is in etcd.
	Register func(endpoint, service, addr string, ttl time.Duration) (Registration, error)
	// Discover calls show with each list, until it fails.
	Discover func(endpoint, service string, show func(addrs []string)) error
}

// Run runs the command of the arguments.
func (p Peer) Run() {
	if err := p.run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func (p Peer) run(args []string) error {
	switch {
	case len(args) == 5 && args[1] == "register":
		seconds, err := strconv.Atoi(args[4])
		if err != nil {
			return err
		}
		registration, err := p.Register(args[0], args[2], args[3], time.Duration(seconds)*time.Second)
		if err != nil {
			return err
		}
		fmt.Println("registered")
		return obey(registration)
	case len(args) == 3 && args[1] == "discover":
		// The program ends with whoever started it.
		go func() {
			input := bufio.NewScanner(os.Stdin)
			for input.Scan() {
			}
			os.Exit(0)
		}()
		last := "none"
		return p.Discover(args[0], args[2], func(addrs []string) {
			sort.Strings(addrs)
			if list := "list " + strings.Join(addrs, " "); list != last {
				last = list
				fmt.Println(list)
			}
		})
	default:
		return fmt.Errorf("wrong arguments: %q", args)
	}
}

func obey(registration Registration) error {
	input := bufio.NewScanner(os.Stdin)
	for input.Scan() {
		verb, text, _ := strings.Cut(input.Text(), " ")
		switch verb {
		case "update":
			if err := registration.Update(text); err != nil {
				return err
			}
			fmt.Println("updated")
		case "leave":
			if err := registration.Leave(); err != nil {
				return err
			}
			fmt.Println("left")
		default:
			return fmt.Errorf("wrong command: %q", verb)
		}
	}
	return input.Err()
}
