"""`langtrain-sidecar demo`: two real models behind the sidecar, an unmodified client, and what becomes of its calls.

show            the story, step by step, and the table at its end
environment     the virtual environment of the model server and the client
model_server    trains the models and serves them with MLServer
guard           certificates, config and process of the sidecar
client          a Triton client; runs in the model server's environment
collector       receives the sidecar's spans
children        processes that never outlive the demo
"""

from sidecar.demo.show import run

__all__ = ["run"]
