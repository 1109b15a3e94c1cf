// Uses Go's queues and barriers, as told by its arguments.
package main

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	recipe "go.etcd.io/etcd/client/v3/experimental/recipes"
)

func must(err error) {
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
}

func number(text string) int {
	n, err := strconv.Atoi(text)
	must(err)
	return n
}

func main() {
	endpoint, verb, name, args := os.Args[1], os.Args[2], os.Args[3], os.Args[4:]
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, DialTimeout: 20 * time.Second})
	must(err)
	switch verb {
	case "enqueue":
		for _, value := range args {
			must(recipe.NewQueue(client, name).Enqueue(value))
		}
	case "dequeue":
		for i := 0; i < number(args[0]); i++ {
			value, err := recipe.NewQueue(client, name).Dequeue()
			must(err)
			fmt.Println("got", value)
		}
	case "enqueue-priority":
		for _, value := range args[1:] {
			must(recipe.NewPriorityQueue(client, name).Enqueue(value, uint16(number(args[0]))))
		}
	case "dequeue-priority":
		for i := 0; i < number(args[0]); i++ {
			value, err := recipe.NewPriorityQueue(client, name).Dequeue()
			must(err)
			fmt.Println("got", value)
		}
	case "hold":
		must(recipe.NewBarrier(client, name).Hold())
		fmt.Println("held")
		io.Copy(io.Discard, os.Stdin)
		must(recipe.NewBarrier(client, name).Release())
	case "wait":
		must(recipe.NewBarrier(client, name).Wait())
		fmt.Println("free")
	case "double":
		session, err := concurrency.NewSession(client, concurrency.WithTTL(30))
		must(err)
		barrier := recipe.NewDoubleBarrier(session, name, number(args[0]))
		must(barrier.Enter())
		fmt.Println("inside")
		io.Copy(io.Discard, os.Stdin)
		must(barrier.Leave())
		fmt.Println("outside")
		must(session.Close())
	}
	fmt.Println("done")
}
