package sdk_test

import (
	"context"
	"fmt"
	"log"

	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/sdk"
)

// A program beside `cocoon up`. On a laptop everything is simulated, and a
// program has to say that it accepts that.
func Example() {
	ctx := context.Background()
	c, err := sdk.Open(ctx, sdk.Config{Gateway: "http://127.0.0.1:10000/v1", Accept: []attest.Kind{attest.Simulated}})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	answer, err := c.Chat(ctx, sdk.ChatRequest{Model: "cocoon-demo-1", Messages: []sdk.Message{{Role: "user", Content: "What is Cocoon?"}}})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(answer.Text)
	fmt.Println("worker:", answer.Proof.WorkerVerdict, "receipt:", answer.Proof.Receipt)
}

// The client role in this process: no gateway, no port.
func ExampleOpen() {
	ctx := context.Background()
	c, err := sdk.Open(ctx, sdk.Config{File: "client.toml"})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	for chunk, err := range c.Stream(ctx, sdk.ChatRequest{Model: "Qwen/Qwen3-8B", Messages: []sdk.Message{{Role: "user", Content: "Hello"}}}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Print(chunk.Text)
	}
	// Under OpenAI's library:
	//	openai.NewClient(option.WithBaseURL(c.BaseURL()), option.WithHTTPClient(c.HTTPClient()))
}
