from bursar.service.cli import app

app()
