from django.db import migrations, models


class Migration(migrations.Migration):
    operations = [migrations.CreateModel("Visit", [
        ("id", models.BigAutoField(primary_key=True)),
        ("at", models.DateTimeField(auto_now_add=True)),
    ])]
