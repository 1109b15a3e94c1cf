// Runs CoreDNS with its etcd plugin, and sends it DNS queries.
//
//	coredns ENDPOINT ZONE
//
// It prints "serving", and answers each line "TYPE NAME" on its input with one line: the code of the response and
// its sorted records, for SRV with the addresses that came along. It ends with its input.
package main

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"sort"
	"strings"
	"time"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/etcd"
	"github.com/miekg/dns"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("wrong arguments: %q", args)
	}
	server, err := serve(args[0], args[1])
	if err != nil {
		return err
	}
	fmt.Println("serving")
	input := bufio.NewScanner(os.Stdin)
	for input.Scan() {
		kind, name, _ := strings.Cut(input.Text(), " ")
		answer, err := query(server, kind, name)
		if err != nil {
			answer = "failed: " + err.Error()
		}
		fmt.Println(answer)
	}
	return input.Err()
}

// serve starts the server on a free port of loopback.
func serve(endpoint, zone string) (net.Addr, error) {
	caddy.Quiet = true
	dnsserver.Quiet = true
	corefile := fmt.Sprintf("%s:0 {\n bind 127.0.0.1\n etcd {\n  path skydns\n  endpoint %s\n }\n}\n", zone, endpoint)
	input := caddy.CaddyfileInput{Contents: []byte(corefile), Filepath: "Corefile", ServerTypeName: "dns"}
	instance, err := caddy.Start(input)
	if err != nil {
		return nil, err
	}
	for _, server := range instance.Servers() {
		if addr := server.LocalAddr(); addr != nil {
			return addr, nil
		}
	}
	return nil, fmt.Errorf("CoreDNS does not listen")
}

func query(server net.Addr, kind, name string) (string, error) {
	number, known := dns.StringToType[kind]
	if !known {
		return "", fmt.Errorf("unknown type: %q", kind)
	}
	question := new(dns.Msg).SetQuestion(dns.Fqdn(name), number)
	client := dns.Client{Net: "udp", Timeout: 10 * time.Second}
	response, _, err := client.Exchange(question, server.String())
	if err != nil {
		return "", err
	}
	var records []string
	for _, record := range append(response.Answer, response.Extra...) {
		switch record := record.(type) {
		case *dns.A:
			records = append(records, "A "+record.Hdr.Name+" "+record.A.String())
		case *dns.AAAA:
			records = append(records, "AAAA "+record.Hdr.Name+" "+record.AAAA.String())
		case *dns.SRV:
			records = append(records, fmt.Sprintf("SRV %s %d %d", record.Target, record.Port, record.Weight))
		}
	}
	sort.Strings(records)
	return dns.RcodeToString[response.Rcode] + "; " + strings.Join(records, "; "), nil
}
